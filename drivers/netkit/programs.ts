/**
 * An ordered list of programs, attached and detached as the kernel's multi-program API (`bpf_mprog`) does it: every rule
 * that is given names a position of its own, and they must agree.
 *
 * @module
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, ERANGE, ESTALE } from "../../ffi/errno.ts";
import type { NetFrame } from "../netdev/frame.ts";
import type { NetkitMeta } from "./meta.ts";

/** Most programs in a list, as in the kernel: 64 places with one for the end. */
export const PROGRAMS_MAX = 63;

/**
 * A program: looks at a frame, which it may change in place, and says what becomes of it: NETKIT_NEXT, PASS, DROP, or
 * what `meta.redirect()` returns. What it throws, or any other verdict, drops the frame.
 */
export type NetkitProgram = (frame: NetFrame, meta: NetkitMeta) => number;

/** One who holds a program in a list: it can only be taken out by the same. */
export interface ProgramLink {
  /** The program that it holds. */
  readonly program: NetkitProgram;
}

/**
 * Where a program goes, or which one is meant. Rules that name different places are refused (ERANGE), and so are `before` and `after`
 * together, unless with `replace`.
 */
export interface Position {
  /** Before this one; `true`: before all. */
  before?: NetkitProgram | ProgramLink | true;
  /** After this one; `true`: after all. */
  after?: NetkitProgram | ProgramLink | true;
  /** In the place of this one. */
  replace?: NetkitProgram;
  /** Only if the list's revision is still this one. */
  revision?: number;
}

interface Entry {
  program: NetkitProgram;
  link: ProgramLink | null;
}

/** The list. Codes are 0 or negative errnos. */
export class ProgramList {
  #entries: Entry[] = [];
  #active: readonly NetkitProgram[] | null = null;
  #revision = 1;

  /** The programs in their order, never changed in place; null when there are none. */
  get active(): readonly NetkitProgram[] | null {
    return this.#active;
  }

  /** Grows with every change. */
  get revision(): number {
    return this.#revision;
  }

  /** Programs, and who holds them. */
  get entries(): readonly Readonly<Entry>[] {
    return this.#entries.map((entry) => ({ ...entry }));
  }

  #commit(entries: Entry[]): number {
    this.#entries = entries;
    this.#active = entries.length === 0 ? null : entries.map(({ program }) => program);
    this.#revision++;
    return 0;
  }

  #exact(program: NetkitProgram, link: ProgramLink | null): number {
    const at = this.#entries.findIndex((entry) => entry.program === program);
    if (at < 0) return -ENOENT;
    return this.#entries[at].link === link ? at : -EBUSY;
  }

  /** Index of the one that a position speaks of; -ENOENT when it isn't there. */
  #relative(relative: NetkitProgram | ProgramLink): number {
    const at = typeof relative === "function"
      ? this.#entries.findIndex(({ program }) => program === relative)
      : this.#entries.findIndex(({ program, link }) => program === relative.program && link === relative);
    return at < 0 ? -ENOENT : at;
  }

  /**
   * The index at which something is to happen: a place between -1 (in front) and the length (behind); -ENOENT, or -ERANGE when the rules
   * disagree. `exact` is where a program is already, or null. Without one `before` and `after` never agree: in the kernel both speak
   * of the same program, whose two sides are never one place.
   */
  #position(exact: number | null, { before, after }: Position): number {
    let index = exact;
    if (before !== undefined) {
      const at = before === true ? 0 : this.#relative(before);
      if (at < 0) return at;
      if (index !== null && index !== at - 1) return -ERANGE;
      index = at - 1;
    }
    if (after !== undefined) {
      const at = after === true ? this.#entries.length - 1 : this.#relative(after);
      if (at < 0 && after !== true) return at;
      if (before !== undefined && exact === null) return -ERANGE;
      if (index !== null && index !== at + 1) return -ERANGE;
      index = at + 1;
    }
    return index ?? this.#entries.length;
  }

  /** Puts a program in: 0, ESTALE, EEXIST, ENOENT, EBUSY, ERANGE. */
  attach(program: NetkitProgram, link: ProgramLink | null, position: Position): number {
    const { replace, revision } = position;
    if (revision !== undefined && revision !== 0 && revision !== this.#revision) return -ESTALE;
    if (this.#entries.some((entry) => entry.program === program)) return -EEXIST;
    let exact: number | null = null;
    if (replace !== undefined) {
      exact = this.#exact(replace, link);
      if (exact < 0) return exact;
    } else if (this.#entries.length >= PROGRAMS_MAX) return -ERANGE;
    const index = this.#position(exact, position);
    if (index < -1) return index;
    const entries = [...this.#entries];
    if (replace !== undefined) entries[index] = { program, link };
    // `before` says the place in front of the one that is made.
    else entries.splice(position.before !== undefined ? index + 1 : index, 0, { program, link });
    return this.#commit(entries);
  }

  /** Takes a program out, or, without one, the one at the position: 0, ESTALE, ENOENT, EBUSY, ERANGE, EINVAL. */
  detach(program: NetkitProgram | null, link: ProgramLink | null, position: Position = {}): number {
    const { replace, revision } = position;
    if (replace !== undefined) return -EINVAL;
    if (revision !== undefined && revision !== 0 && revision !== this.#revision) return -ESTALE;
    if (this.#entries.length === 0) return -ENOENT;
    let exact: number | null = null;
    if (program !== null) {
      exact = this.#exact(program, link);
      if (exact < 0) return exact;
    }
    let index = this.#position(exact, position);
    if (index < -1) return index;
    index = Math.max(0, Math.min(index, this.#entries.length - 1));
    if (this.#entries[index].link !== link) return -EBUSY;
    return this.#commit(this.#entries.filter((_, i) => i !== index));
  }

  /** Takes all out: the device is going. */
  clear(): void {
    this.#commit([]);
  }
}
