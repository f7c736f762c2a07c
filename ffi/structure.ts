/**
 * C structures, described once and typed: fields in their order, laid out as a C compiler for 64-bit Linux does it.
 *
 *     const fdbEntry = structure("__fdb_entry", { mac: bytes(6), port: u8, local: u8, ageingTimer: u32 });
 *     fdbEntry.read(view, 0).port
 *
 * @module
 */

/** The type of a field: its size and alignment in bytes, and how it is read and written (little-endian). */
export interface FieldType<T> {
  /** Bytes. */
  readonly size: number;
  /** It begins at a multiple of so many bytes. */
  readonly alignment: number;
  /** The value when none is given. */
  readonly zero: T;
  /** Reads it. */
  read(view: DataView, at: number): T;
  /** Writes it. */
  write(view: DataView, at: number, value: T): void;
}

/** `__u8`. */
export const u8: FieldType<number> = {
  size: 1,
  alignment: 1,
  zero: 0,
  read: (view, at) => view.getUint8(at),
  write: (view, at, value) => view.setUint8(at, value),
};

/** `__u16`. */
export const u16: FieldType<number> = {
  size: 2,
  alignment: 2,
  zero: 0,
  read: (view, at) => view.getUint16(at, true),
  write: (view, at, value) => view.setUint16(at, value, true),
};

/** `__u32`. */
export const u32: FieldType<number> = {
  size: 4,
  alignment: 4,
  zero: 0,
  read: (view, at) => view.getUint32(at, true),
  write: (view, at, value) => view.setUint32(at, value, true),
};

/** `int`. */
export const i32: FieldType<number> = {
  size: 4,
  alignment: 4,
  zero: 0,
  read: (view, at) => view.getInt32(at, true),
  write: (view, at, value) => view.setInt32(at, value, true),
};

/** `__u64`, exactly. */
export const u64: FieldType<bigint> = {
  size: 8,
  alignment: 8,
  zero: 0n,
  read: (view, at) => view.getBigUint64(at, true),
  write: (view, at, value) => view.setBigUint64(at, value, true),
};

/** `unsigned long`, or an address: 64 bits as a number, exact up to 2^53. */
export const word: FieldType<number> = {
  size: 8,
  alignment: 8,
  zero: 0,
  read: (view, at) => view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000,
  write: (view, at, value) => {
    view.setUint32(at, value % 0x1_0000_0000, true);
    view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  },
};

function fill(view: DataView, at: number, size: number, value: Uint8Array): void {
  if (value.length > size) throw new RangeError(`Invalid field of ${value.length} bytes: at most ${size} have room`);
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, size);
  bytes.fill(0);
  bytes.set(value);
}

/** `__u8[size]`: a copy when read; shorter values are followed by zeros. */
export function bytes(size: number): FieldType<Uint8Array<ArrayBuffer>> {
  return {
    size,
    alignment: 1,
    zero: new Uint8Array(0),
    read: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, size).slice() as Uint8Array<ArrayBuffer>,
    write: (view, at, value) => fill(view, at, size, value),
  };
}

/** `char[size]`: text up to the first zero. Longer text is a `RangeError`: one byte is the final zero's. */
export function text(size: number): FieldType<string> {
  return {
    size,
    alignment: 1,
    zero: "",
    read: (view, at) => {
      const all = new Uint8Array(view.buffer, view.byteOffset + at, size);
      const end = all.indexOf(0);
      return new TextDecoder().decode(all.slice(0, end < 0 ? size : end));
    },
    write: (view, at, value) => {
      const encoded = new TextEncoder().encode(value);
      if (encoded.length >= size) throw new RangeError(`Invalid text of ${encoded.length} bytes: at most ${size - 1} have room`);
      fill(view, at, size, encoded);
    },
  };
}

/** An array of fixed length. Fewer values than `count` leave the rest zero. */
export function array<T>(type: FieldType<T>, count: number): FieldType<T[]> {
  return {
    size: type.size * count,
    alignment: type.alignment,
    zero: [],
    read: (view, at) => Array.from({ length: count }, (_, i) => type.read(view, at + i * type.size)),
    write: (view, at, values) => {
      if (values.length > count) throw new RangeError(`Invalid array of ${values.length}: at most ${count} have room`);
      for (let i = 0; i < count; i++) type.write(view, at + i * type.size, values[i] ?? type.zero);
    },
  };
}

/** Fields by name, in their order. */
// deno-lint-ignore no-explicit-any
export type Fields = Record<string, FieldType<any>>;

/** The values of a structure with such fields. */
export type ValuesOf<F extends Fields> = { [K in keyof F]: F[K] extends FieldType<infer T> ? T : never };

/** A structure: itself a field type, so that it can stand in another, or in an {@link array}. */
export interface Structure<F extends Fields> extends FieldType<ValuesOf<F>> {
  /** As C calls it. */
  readonly name: string;
  /** Where each field begins, in bytes. */
  readonly offsets: Readonly<Record<keyof F, number>>;
  /** Writes some fields into memory that holds the structure already; the others stay. */
  set(view: DataView, at: number, values: Partial<ValuesOf<F>>): void;
  /** New memory with these values, zeros elsewhere. */
  make(values?: Partial<ValuesOf<F>>): Uint8Array<ArrayBuffer>;
  /** The values in `memory`. Throws `RangeError` when it is too short. */
  parse(memory: Uint8Array, at?: number): ValuesOf<F>;
}

/** The values that a structure holds: `StructureValues<typeof bridgeInfo>`. */
export type StructureValues<S> = S extends Structure<infer F> ? ValuesOf<F> : never;

/** Describes a structure. Padding is C's own: each field at a multiple of its alignment, the end at that of the widest. */
export function structure<F extends Fields>(name: string, fields: F): Structure<F> {
  const names: (keyof F & string)[] = Object.keys(fields);
  const offsets: Record<string, number> = {};
  let end = 0, alignment = 1;
  for (const key of names) {
    const field = fields[key];
    end = Math.ceil(end / field.alignment) * field.alignment;
    offsets[key] = end;
    end += field.size;
    alignment = Math.max(alignment, field.alignment);
  }
  const size = Math.ceil(end / alignment) * alignment;
  const read = (view: DataView, at: number) =>
    Object.fromEntries(names.map((key) => [key, fields[key].read(view, at + offsets[key])])) as ValuesOf<F>;
  const set = (view: DataView, at: number, values: Partial<ValuesOf<F>>) => {
    for (const key of names) if (values[key] !== undefined) fields[key].write(view, at + offsets[key], values[key]);
  };
  const zero = Object.fromEntries(names.map((key) => [key, fields[key].zero])) as ValuesOf<F>;
  return {
    name,
    size,
    alignment,
    zero,
    offsets: offsets as Record<keyof F, number>,
    read,
    set,
    write: (view, at, values) => set(view, at, { ...zero, ...values }),
    make: (values = {}) => {
      const memory = new Uint8Array(size);
      set(new DataView(memory.buffer), 0, values);
      return memory;
    },
    parse: (memory, at = 0) => {
      if (at < 0 || at + size > memory.length) {
        throw new RangeError(`Cannot read struct ${name}: ${size} bytes are needed, ${memory.length - at} are there`);
      }
      return read(new DataView(memory.buffer, memory.byteOffset, memory.length), at);
    },
  };
}
