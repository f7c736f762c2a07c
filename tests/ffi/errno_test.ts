import { assertEquals, assertInstanceOf } from "@std/assert";
import { errnoError, errnoName, PRIVILEGE_HINT } from "../../ffi/errno.ts";

Deno.test("an errno becomes the error that a Deno user knows, with the way out", () => {
  const error = errnoError("open", 'TAP device "tap0"', -1, PRIVILEGE_HINT);
  assertInstanceOf(error, Deno.errors.PermissionDenied);
  assertEquals(error.code, "EPERM");
  assertEquals(
    error.message,
    'Cannot open TAP device "tap0": permission denied (EPERM). Run as root, with CAP_NET_ADMIN, or under `unshare -Urn`',
  );
});

Deno.test("classes of errors", () => {
  const table: [number, new (message: string) => Error, string][] = [
    [2, Deno.errors.NotFound, "ENOENT"],
    [9, Deno.errors.BadResource, "EBADF"],
    [11, Deno.errors.WouldBlock, "EAGAIN"],
    [13, Deno.errors.PermissionDenied, "EACCES"],
    [16, Deno.errors.Busy, "EBUSY"],
    [17, Deno.errors.AlreadyExists, "EEXIST"],
    [19, Deno.errors.NotFound, "ENODEV"],
    [22, Deno.errors.InvalidData, "EINVAL"],
    [77, Deno.errors.BadResource, "EBADFD"],
    [98, Deno.errors.AddrInUse, "EADDRINUSE"],
    [99, Deno.errors.AddrNotAvailable, "EADDRNOTAVAIL"],
    [101, Deno.errors.NetworkUnreachable, "ENETUNREACH"],
    [4711, Error, "E4711"],
  ];
  for (const [errno, errorClass, code] of table) {
    for (const sign of [1, -1]) {
      const error = errnoError("do", "it", sign * errno);
      assertEquals(error.constructor, errorClass);
      assertEquals(error.code, code);
      assertEquals(errnoName(sign * errno), code);
    }
  }
});
