/**
 * Where guests may go: prefixes that are allowed or denied; of those that match, the longest counts.
 *
 * @module
 */
import { formatKey, maskOf, parsePrefix, tryParseAddress } from "../stack/wire/address.ts";

/**
 * What nobody should reach through a gateway unless its owner says so: this machine's loop-back, its links, and what is no host
 * at all. Its other addresses are not among these: a service that listens on them is reached, as with slirp and passt.
 */
export const DENIED_BY_DEFAULT: readonly string[] = ["127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"];

interface Rule {
  readonly key: number;
  readonly mask: number;
  readonly prefixLength: number;
  readonly allowed: boolean;
}

/** The rules of one gateway. */
export class Policy {
  readonly #rules: Rule[] = [];

  /**
   * @param allow prefixes or addresses; `"0.0.0.0/0"` is there unless `deny` has it
   * @param deny prefixes or addresses, beside {@link DENIED_BY_DEFAULT}; where both have the same prefix, `deny` counts
   * @throws {TypeError | RangeError} for what is no prefix
   */
  constructor(allow: readonly string[], deny: readonly string[]) {
    for (const text of DENIED_BY_DEFAULT) this.#add(text, false, true);
    for (const text of allow) this.#add(text, true, true);
    for (const text of deny) this.#add(text, false, true);
    this.#add("0.0.0.0/0", true, false);
    // The longest first: the first match decides.
    this.#rules.sort((a, b) => b.prefixLength - a.prefixLength);
  }

  #add(text: string, allowed: boolean, replace: boolean): void {
    if (typeof text !== "string") throw new TypeError(`a prefix like "10.0.0.0/8" is needed: ${text}`);
    const { key, prefixLength } = parsePrefix(text.includes("/") ? text : `${text}/32`);
    const mask = prefixLength === 0 ? 0 : maskOf(prefixLength);
    const at = this.#rules.findIndex((rule) => rule.prefixLength === prefixLength && rule.key === (key & mask));
    if (at >= 0 && !replace) return;
    if (at >= 0) this.#rules.splice(at, 1);
    this.#rules.push({ key: key & mask, mask, prefixLength, allowed });
  }

  /** True if a guest may talk to this address. */
  allows(address: string): boolean {
    const key = tryParseAddress(address);
    if (key === null) return false;
    for (const rule of this.#rules) if ((key & rule.mask) === rule.key) return rule.allowed;
    return false;
  }

  /** The rules as text, the one that counts first at the top. */
  describe(): string[] {
    return this.#rules.map(({ key, prefixLength, allowed }) => `${allowed ? "allow" : "deny"} ${formatKey(key)}/${prefixLength}`);
  }
}
