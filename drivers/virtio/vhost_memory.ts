/**
 * The memory of a vhost-user front end, as its table tells and its descriptors give it.
 *
 * @module
 */
import { libc } from "../../ffi/libc.ts";
import { Mapping, sealSize } from "../../ffi/shared_memory.ts";
import { addressAt, Region, SharedMemory } from "./memory.ts";

/** Regions of one table (vhost-user.rst: 8 without CONFIGURE_MEM_SLOTS). */
export const TABLE_REGIONS_MAX = 8;
/** Regions that can be plugged in one by one. */
export const SLOTS_MAX = 32;
/** Bytes of a region's description. */
export const REGION_SIZE = 32;
/** Largest region: a V8 buffer's own limit lies far above. */
const REGION_BYTES_MAX = 2 ** 40;

/** Mapped regions; {@link close} unmaps them, and nothing may hold their bytes by then. */
export class VhostMemory {
  readonly memory: SharedMemory = new SharedMemory();
  readonly #mappings = new Map<Region, Mapping>();
  /** How often more a region was added: QEMU before 8.1 sends every one once for each queue pair. */
  readonly #again = new Map<Region, number>();
  /** Regions whose owner could shorten them while we use them, which would end this process. */
  unsealed = 0;

  /**
   * Maps the region described at `at`; takes `fd` over and closes it.
   *
   * @param sealedOnly refuse memory that its owner could shorten
   * @throws what is wrong with it
   */
  add(view: DataView, at: number, fd: number, sealedOnly: boolean): void {
    try {
      const [base, size, user, offset] = [0, 8, 16, 24].map((field) => addressAt(view, at + field));
      if (!(size > 0) || size > REGION_BYTES_MAX || offset > REGION_BYTES_MAX || offset % 2 !== 0) {
        throw new RangeError(`a region of ${size} bytes at offset ${offset}`);
      }
      const known = this.#find(base, size, user);
      if (known !== undefined) {
        this.#again.set(known, (this.#again.get(known) ?? 0) + 1);
        return;
      }
      const sealed = sealSize(fd);
      if (!sealed && sealedOnly) throw new RangeError("a region whose size is not sealed");
      const mapping = Mapping.map(fd, size + offset);
      try {
        const region = new Region(mapping.bytes.subarray(offset), base, user);
        this.memory.add(region);
        this.#mappings.set(region, mapping);
        if (!sealed) this.unsealed++;
      } catch (error) {
        mapping.unmap();
        throw error;
      }
    } finally {
      libc().close(fd);
    }
  }

  /** Takes the region described at `at` away. False if there is none like it. */
  remove(view: DataView, at: number): boolean {
    const [base, size, user] = [0, 8, 16].map((field) => addressAt(view, at + field));
    const region = this.#find(base, size, user);
    if (region === undefined) return false;
    const again = this.#again.get(region) ?? 0;
    if (again > 0) {
      this.#again.set(region, again - 1);
      return true;
    }
    this.memory.remove(region);
    this.#mappings.get(region)!.unmap();
    this.#mappings.delete(region);
    return true;
  }

  #find(base: number, size: number, user: number): Region | undefined {
    return this.memory.regions.find((one) => one.base === base && one.size === size && one.userBase === user);
  }

  get count(): number {
    return this.#mappings.size;
  }

  close(): void {
    for (const [region, mapping] of this.#mappings) {
      this.memory.remove(region);
      mapping.unmap();
    }
    this.#mappings.clear();
  }
}
