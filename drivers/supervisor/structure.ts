/**
 * Structures of C, described once: what is read has the types of the description, and what is written is checked by them.
 *
 * @module
 */

/** One field: how it is aligned, how long it is, and how it is read and written. */
export interface Field<T> {
  /** Bytes. */
  readonly size: number;
  /** Bytes that its place is a multiple of. */
  readonly align: number;
  /** Reads it. */
  get(view: DataView<ArrayBuffer>, offset: number): T;
  /** Writes it. */
  set(view: DataView<ArrayBuffer>, offset: number, value: T): void;
}

/** A structure is a field of others, too. */
export interface Structure<T> extends Field<T> {
  /** Where the fields stand. */
  readonly offsets: Readonly<Record<keyof T & string, number>>;
  /** The fields of some bytes, at least `size` of them. */
  parse(bytes: Uint8Array<ArrayBuffer>, offset?: number): T;
  /** New bytes; fields that `value` lacks are zero. */
  emit(value: Partial<T>): Uint8Array<ArrayBuffer>;
}

/** What a field holds. */
export type FieldValue<F> = F extends Field<infer T> ? T : never;

/** The numbers' names and sizes are C's; all little-endian, as x86-64 and arm64 have them. */
export const u8: Field<number> = { size: 1, align: 1, get: (v, o) => v.getUint8(o), set: (v, o, x) => v.setUint8(o, x) };
/** Unsigned, 16 bits. */
export const u16: Field<number> = {
  size: 2,
  align: 2,
  get: (v, o) => v.getUint16(o, true),
  set: (v, o, x) => v.setUint16(o, x, true),
};
/** Unsigned, 32 bits. */
export const u32: Field<number> = {
  size: 4,
  align: 4,
  get: (v, o) => v.getUint32(o, true),
  set: (v, o, x) => v.setUint32(o, x, true),
};
/** Signed, 32 bits: C's `int`. */
export const i32: Field<number> = {
  size: 4,
  align: 4,
  get: (v, o) => v.getInt32(o, true),
  set: (v, o, x) => v.setInt32(o, x, true),
};
/** Unsigned, 64 bits: C's `unsigned long` and pointers. */
export const u64: Field<bigint> = {
  size: 8,
  align: 8,
  get: (v, o) => v.getBigUint64(o, true),
  set: (v, o, x) => v.setBigUint64(o, x, true),
};

/** So many bytes. What is shorter is filled up with zeros. */
export function bytes(length: number): Field<Uint8Array<ArrayBuffer>> {
  return {
    size: length,
    align: 1,
    get: (v, o) => new Uint8Array(v.buffer, v.byteOffset + o, length).slice(),
    set: (v, o, x) => {
      if (x.length > length) throw new RangeError(`${x.length} bytes for a field of ${length}`);
      const place = new Uint8Array(v.buffer, v.byteOffset + o, length);
      place.fill(0);
      place.set(x);
    },
  };
}

/** `char name[length]`: a text that ends at its first zero; one that is too long is cut, so that a zero is left. */
export function chars(length: number): Field<string> {
  return {
    size: length,
    align: 1,
    get: (v, o) => {
      const place = new Uint8Array(v.buffer, v.byteOffset + o, length);
      const end = place.indexOf(0);
      return new TextDecoder().decode(place.slice(0, end < 0 ? length : end));
    },
    set: (v, o, x) => {
      const place = new Uint8Array(v.buffer, v.byteOffset + o, length);
      place.fill(0);
      new TextEncoder().encodeInto(x, place.subarray(0, length - 1));
    },
  };
}

/** `type name[count]`. A shorter list is filled up with zeros. */
export function array<T>(field: Field<T>, count: number): Field<T[]> {
  return {
    size: field.size * count,
    align: field.align,
    get: (v, o) => Array.from({ length: count }, (_, i) => field.get(v, o + i * field.size)),
    set: (v, o, x) => {
      if (x.length > count) throw new RangeError(`${x.length} elements for an array of ${count}`);
      new Uint8Array(v.buffer, v.byteOffset + o, field.size * count).fill(0);
      x.forEach((value, i) => field.set(v, o + i * field.size, value));
    },
  };
}

/**
 * A structure, laid out as C lays it out: every field at a multiple of its alignment, the whole a multiple of the largest.
 *
 * ```ts
 * import { structure, u16, u32 } from "@tapioca/tapioca";
 *
 * const Reading = structure({ channel: u16, value: u32 });
 * console.log(Reading.size, Reading.offsets.value); // 8 4
 * console.log(Reading.parse(Reading.emit({ channel: 3, value: 70_000 })).value); // 70000
 * ```
 */
export function structure<F extends Record<string, Field<never>>>(
  fields: F,
): Structure<{ [K in keyof F]: FieldValue<F[K]> }> {
  type Value = { [K in keyof F]: FieldValue<F[K]> };
  const entries = Object.entries(fields) as unknown as [keyof F & string, Field<unknown>][];
  const offsets: Record<string, number> = {};
  let size = 0, align = 1;
  for (const [name, field] of entries) {
    size = Math.ceil(size / field.align) * field.align;
    offsets[name] = size;
    size += field.size;
    align = Math.max(align, field.align);
  }
  size = Math.ceil(size / align) * align;
  const get = (view: DataView<ArrayBuffer>, offset: number) =>
    Object.fromEntries(entries.map(([name, field]) => [name, field.get(view, offset + offsets[name])])) as Value;
  const set = (view: DataView<ArrayBuffer>, offset: number, value: Partial<Value>) => {
    for (const [name, field] of entries) {
      if (value[name] !== undefined) field.set(view, offset + offsets[name], value[name]);
    }
  };
  return {
    size,
    align,
    offsets: offsets as Record<keyof Value & string, number>,
    get,
    set,
    parse: (bytes, offset = 0) => get(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset),
    emit: (value) => {
      const bytes = new Uint8Array(size);
      set(new DataView(bytes.buffer), 0, value);
      return bytes;
    },
  };
}
