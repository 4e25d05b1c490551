import type { Message, Options, Reading, Refused, Removed, Snapshot, State } from './energyws.js';

export interface EnergyOptions extends Omit<Options, 'onState'> {
  /** How many messages the hook keeps. Default: 100. */
  keep?: number;
}

/** What a component shows; a new object at every change, at most 20 times a second. */
export interface Energy<Data = Record<string, unknown>, Also extends Removed = never> {
  state: State;
  /** In words for people, why the client is `waiting`, or still `connecting`; else empty. */
  why: string;
  /** The newest reading. */
  latest: Reading<Data> | null;
  /** The newest readings and gaps, and with `keys` or `snapshot` the removed keys, oldest first. */
  messages: readonly (Message<Data> | Also)[];
  /** What to pass as `resume` to continue here later. */
  positions: Readonly<Record<string, string>>;
  /** As of EnergyClient, as is `conflated`. */
  snapshots: Readonly<Record<string, Snapshot>>;
  conflated: number;
  /** Set once the service has refused this client for good. */
  error: Refused | null;
}

/**
 * The readings of a service, for as long as the component is mounted.
 *
 * Components with the same URL and options share one connection, and what it has delivered. A
 * changed option, other than a function, makes another connection. On a server it renders as
 * `idle`.
 *
 * @throws TypeError, to the nearest error boundary, for a URL or options that cannot be used.
 */
export function useEnergy<Data = Record<string, unknown>, Also extends Removed = never>(
  url: string | URL,
  options?: EnergyOptions,
): Energy<Data, Also>;
