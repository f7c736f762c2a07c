/**
 * A Debian cloud kernel with busybox in QEMU, driven over its serial line: the real driver at the other end of our devices.
 *
 * @module
 */
import { findProgram, lacksPrograms } from "./namespace.ts";

const FOLDER = Deno.env.get("TAPIOCA_GUEST") ?? "/var/cache/tapioca_guest";
const MODULES = [
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_pci_legacy_dev",
  "drivers/virtio/virtio_pci_modern_dev",
  "drivers/virtio/virtio_pci",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
];
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /tmp /etc
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in ${MODULES.map((path) => path.split("/").at(-1)).join(" ")}; do insmod /modules/$module.ko || echo "no $module"; done
ip link set lo up
ip link set eth0 up
stty -echo
echo "guest is up"
exec sh
`;
/** What udhcpc calls with the lease. */
const DHCP_SCRIPT = `#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev $interface
ip addr add $ip/$mask dev $interface
[ -n "$mtu" ] && ip link set $interface mtu $mtu
ip route add default via $router dev $interface
echo "nameserver $dns" > /etc/resolv.conf
`;
const PROMPT = "@done ";

/** For `ignore`: true if there is no QEMU, or nothing to boot. */
export function lacksGuest(): boolean {
  if (Deno.build.arch !== "x86_64") return true;
  try {
    Deno.statSync(`${FOLDER}/ready`);
  } catch {
    // The line that says how to get it goes where the others go.
    return lacksPrograms([`the files of a virtual machine (${FOLDER})`], "nothing, but run tests/testing/guest_files.sh as root");
  }
  return lacksPrograms(["qemu-system-x86_64"], "qemu-system-x86");
}

function folderOf(path: string): string {
  const [first] = [...Deno.readDirSync(`${FOLDER}/${path}`)];
  return `${FOLDER}/${path}/${first.name}`;
}

/** An archive in the format of cpio's "newc", which the kernel unpacks as its first root. */
function archive(files: [path: string, mode: number, bytes: Uint8Array][]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const encoder = new TextEncoder();
  const pad = (length: number) => new Uint8Array((4 - (length & 3)) & 3);
  files = [...files, ["TRAILER!!!", 0, new Uint8Array()]];
  files.forEach(([path, mode, bytes], i) => {
    const name = encoder.encode(`${path}\0`);
    const numbers = [i + 1, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length, 0];
    const header = encoder.encode(`070701${numbers.map((n) => n.toString(16).padStart(8, "0")).join("")}`);
    parts.push(header, name, pad(header.length + name.length), bytes, pad(bytes.length));
  });
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (out.set(part, at), at + part.length), 0);
  return out;
}

function makeInitrd(): string {
  const FILE = 0o100755, DIRECTORY = 0o40755;
  const modules = `${folderOf("lib/modules")}/kernel`;
  const text = (content: string) => new TextEncoder().encode(content);
  const folders = ["bin", "dev", "modules", "proc", "sys", "tmp", "etc"];
  const path = Deno.makeTempFileSync({ prefix: "tapioca_initrd_" });
  Deno.writeFileSync(
    path,
    archive([
      ...folders.map((name): [string, number, Uint8Array] => [name, DIRECTORY, new Uint8Array()]),
      ["bin/busybox", FILE, Deno.readFileSync(`${FOLDER}/bin/busybox`)],
      ...MODULES.map((name): [string, number, Uint8Array] => [
        `modules/${name.split("/").at(-1)}.ko`,
        FILE,
        Deno.readFileSync(`${modules}/${name}.ko`),
      ]),
      ["init", FILE, text(INIT)],
      ["dhcp", FILE, text(DHCP_SCRIPT)],
    ]),
  );
  return path;
}

/** One virtual machine. Ended and cleaned up when disposed of. */
export class Guest implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #initrd: string;
  #console = "";
  #news: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  readonly #drained: Promise<unknown>;
  #ended = false;
  #commands = 0;

  private constructor(child: Deno.ChildProcess, initrd: string) {
    this.#child = child;
    this.#initrd = initrd;
    this.#writer = child.stdin.getWriter();
    this.#drained = Promise.all([this.#drain(child.stdout), this.#drain(child.stderr)]);
    child.status.then(() => {
      this.#ended = true;
      this.#news.resolve();
    });
  }

  /**
   * Boots, until there is a shell.
   *
   * @param words QEMU's, for the network card
   */
  static async boot(words: string[]): Promise<Guest> {
    const initrd = makeInitrd();
    const kernel = [...Deno.readDirSync(`${FOLDER}/boot`)].find((entry) => entry.name.startsWith("vmlinuz"))!.name;
    const args = ["-nodefaults", "-no-reboot", "-display", "none", "-m", "256M", "-serial", "stdio", "-monitor", "none"];
    args.push("-kernel", `${FOLDER}/boot/${kernel}`, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0");
    const child = new Deno.Command(findProgram("qemu-system-x86_64")!, {
      args: [...args, ...words],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const guest = new Guest(child, initrd);
    try {
      await guest.#expect("guest is up", 120);
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #drain(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.#console += text;
      this.#news.resolve();
      this.#news = Promise.withResolvers<void>();
    }
  }

  /** Waits until the console has said `text`. */
  async #expect(text: string, seconds: number): Promise<void> {
    const until = Date.now() + seconds * 1000;
    while (!this.#console.includes(text)) {
      if (this.#ended || Date.now() > until) {
        throw new Error(
          `the guest didn't say ${JSON.stringify(text)}${this.#ended ? " and ended" : ""}:\n${this.#console.slice(-3000)}`,
        );
      }
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(late.resolve, 1000);
      await Promise.race([this.#news.promise, late.promise]);
      clearTimeout(timer);
    }
  }

  /** Runs a command of the guest's shell: what it printed. Throws unless it ends with 0. */
  async run(command: string, seconds = 120): Promise<string> {
    const mark = `${PROMPT}${++this.#commands} `;
    const from = this.#console.length;
    // The mark is put together by the guest, so that an echo of the line isn't taken for it.
    await this.#writer.write(new TextEncoder().encode(`${command}\necho "${PROMPT}""${this.#commands} $?."\n`));
    await this.#expect(mark, seconds);
    const at = this.#console.indexOf(mark, from);
    await this.#expectDot(at + mark.length, seconds);
    const output = this.#console.slice(from, at).replaceAll("\r", "").replace(/^(~|\/) # /gm, "");
    const code = this.#console.slice(at + mark.length).match(/^(\d+)\./)?.[1];
    if (code !== "0") throw new Error(`the guest's ${JSON.stringify(command)} ended with ${code}: ${output.slice(-1500)}`);
    return output.trim();
  }

  async #expectDot(at: number, seconds: number): Promise<void> {
    for (let i = 0; i < seconds * 10 && !/^\d+\./.test(this.#console.slice(at)); i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.#child.kill("SIGKILL");
    await this.#writer.close().catch(() => {});
    await this.#child.status;
    await this.#drained;
    await Deno.remove(this.#initrd).catch(() => {});
  }
}
