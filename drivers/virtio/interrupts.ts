/**
 * How a device made of registers tells its driver that something happened.
 *
 * @module
 */

/** What {@link InterruptTarget.message} is asked for when the configuration has changed. */
export const CONFIG_CHANGED = -1;

/** Where a device's interrupts go. */
export interface InterruptTarget {
  /** Tells of a queue, or of {@link CONFIG_CHANGED}, by a message of its own. False if there are none, and the line is used. */
  message(index: number): boolean;
  /** The line is up while the interrupt status has bits; called again for every new event. */
  line(up: boolean): void;
  /** The driver has reset the device. */
  reset(): void;
}
