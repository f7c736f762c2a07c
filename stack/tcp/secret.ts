/**
 * A keyed hash of the addresses and ports of a connection: HalfSipHash-2-4, for initial sequence numbers (RFC 6528),
 * timestamp offsets (RFC 7323 7.1) and port choice (RFC 6056).
 *
 * @module
 */

export class Secret {
  readonly #k0: number;
  readonly #k1: number;
  #v0 = 0;
  #v1 = 0;
  #v2 = 0;
  #v3 = 0;

  /** @param random32 where the key comes from */
  constructor(random32: () => number) {
    this.#k0 = random32() | 0;
    this.#k1 = random32() | 0;
  }

  /** Hash of four int32 words, an int32. */
  hash(a: number, b: number, c: number, d: number): number {
    this.#v0 = this.#k0;
    this.#v1 = this.#k1;
    this.#v2 = this.#k0 ^ 0x6c796765;
    this.#v3 = this.#k1 ^ 0x74656462;
    this.#word(a);
    this.#word(b);
    this.#word(c);
    this.#word(d);
    this.#word(16 << 24);
    this.#v2 ^= 0xff;
    for (let i = 0; i < 4; i++) this.#round();
    return this.#v1 ^ this.#v3;
  }

  #word(m: number): void {
    this.#v3 ^= m;
    this.#round();
    this.#round();
    this.#v0 ^= m;
  }

  #round(): void {
    let v0 = this.#v0, v1 = this.#v1, v2 = this.#v2, v3 = this.#v3;
    v0 = (v0 + v1) | 0;
    v1 = (v1 << 5) | (v1 >>> 27);
    v1 ^= v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = (v3 << 8) | (v3 >>> 24);
    v3 ^= v2;
    v0 = (v0 + v3) | 0;
    v3 = (v3 << 7) | (v3 >>> 25);
    v3 ^= v0;
    v2 = (v2 + v1) | 0;
    v1 = (v1 << 13) | (v1 >>> 19);
    v1 ^= v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    this.#v0 = v0;
    this.#v1 = v1;
    this.#v2 = v2;
    this.#v3 = v3;
  }
}
