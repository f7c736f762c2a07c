import { assertThrows } from "@std/assert";
import { TapDevice, type TapOptions } from "../../drivers/tap.ts";
import { TunDevice } from "../../drivers/tun.ts";
import "../ffi/kernel.ts";

Deno.test("bad options are TypeErrors before anything is opened", () => {
  const bad: [TapOptions, string][] = [
    [{ name: "0123456789abcdef" }, "16 bytes, at most 15"],
    [{ name: "" }, "empty"],
    [{ name: "a/b" }, "slash"],
    [{ mtu: 67 }, "MTU 67"],
    [{ mtu: 65522 }, "65521"],
    [{ mtu: 1500.5 }, "whole number"],
    [{ mtu: NaN }, "whole number"],
    [{ mac: "01:00:00:00:00:01" }, "group address"],
    [{ mac: "nonsense" }, "Invalid MAC"],
    [{ owner: -1 }, "owner"],
    [{ group: 1.5 }, "group"],
    [{ sendBuffer: 0 }, "send buffer"],
    [{ host: { mtu: 10 } }, "host MTU"],
    [{ host: { name: "a b" } }, "Invalid interface name"],
    [{ host: { mac: "ff:ff:ff:ff:ff:ff" } }, "group address"],
    [{ host: { address: "10.0.0.1" } }, "10.0.0.1/24"],
    [{ host: { address: ["10.0.0.1/24", "10.0.0.256/24"] } }, "Invalid IP address"],
    [{ host: { address: "10.0.0.1/33" } }, "prefix length"],
    [{ host: { routes: ["10.0.0.0/40"] } }, "prefix length"],
    [{ host: { routes: [{ destination: "10.0.0.0/8", gateway: "::1" }] } }, "mixed"],
    [{ host: { neighbors: [{ address: "x", mac: "02:00:00:00:00:01" }] } }, "Invalid IP"],
    [{ host: { neighbors: [{ address: "10.0.0.1", mac: "" }] } }, "Invalid MAC"],
    [{ host: { namespace: "a/b" } }, "absolute"],
  ];
  for (const [options, text] of bad) assertThrows(() => TapDevice.open(options), TypeError, text);
  assertThrows(() => TunDevice.open({ mtu: 65536 }), TypeError, "65535");
  assertThrows(() => TunDevice.open({ host: { mac: "02:00:00:00:00:01" } }), TypeError, "host.mac");
  assertThrows(() => TunDevice.open({ host: { neighbors: [] } }), TypeError, "host.neighbors");
});
