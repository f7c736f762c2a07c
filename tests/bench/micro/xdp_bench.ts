// What a program of the forwarder costs for each frame in user space, with its maps already filled.
import { physicalProgram, PORTS, ROUTER_IFACE, routerProgram } from "../../../drivers/xdp/programs/vlan_mux.ts";
import { filterProgram } from "../../../drivers/xdp/programs/filter.ts";
import type { MapMemory } from "../../../drivers/xdp/map_kinds.ts";
import { le32, UserRun } from "../../drivers/xdp/both.ts";
import { corpus } from "../../testing/frames.ts";

const AT = 256;
const UDP = corpus().find(({ name }) => name === "udp")!.frame;

/** Puts the frame where it stays: a push and a pop leave it as it was. */
function placed(user: UserRun): DataView {
  user.bytes.set(UDP, AT);
  Object.assign(user.context, { headStart: 0, tailEnd: 4000, offset: AT, end: AT + UDP.length });
  return new DataView(user.bytes.buffer);
}

const physical = new UserRun(physicalProgram());
const router = new UserRun(routerProgram());
physical.maps.get(ROUTER_IFACE.name)!.put(le32(0), le32(7));
router.maps.get(PORTS.name)!.put(le32(21), le32(21));
const view = placed(physical);
const { context } = physical;
Deno.bench("xdp: a tag pushed by `physical` and popped by `router` (two programs)", () => {
  context.offset = AT;
  const pushed = physical.run(view, AT, AT + UDP.length, 21, context);
  const popped = router.run(view, context.offset, AT + UDP.length, 7, context);
  if (pushed + popped !== 8) throw new Error("it was dropped");
});

/** Maps without entries: the program alone, without what its maps cost. */
const filter = filterProgram().instantiate(
  filterProgram().maps.map((spec): MapMemory => {
    const view = (size: number) => new DataView(new ArrayBuffer(size));
    const nothing = () => -1;
    return {
      spec,
      key: view(spec.keySize),
      value: view(64),
      values: view(64),
      lookup: nothing,
      update: nothing,
      delete: nothing,
    };
  }),
);
Deno.bench("xdp: a UDP datagram through `filter`, with nothing in its maps", () => {
  if (filter(view, AT, AT + UDP.length, 1, context) !== 2) throw new Error("it was dropped");
});
