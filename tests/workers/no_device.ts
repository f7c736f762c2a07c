/** A device for workers whose stack talks to itself: one end of a cable that leads nowhere. */
import { cable, type Device } from "../../mod.ts";

export function openDevice(): Device {
  return cable()[0];
}
