/** One record. */
export interface Reading<Data = Record<string, unknown>> {
  kind: 'reading';
  stream: string;
  /** RFC 3339, UTC, milliseconds: the record's own time in Kafka. */
  timestamp: string;
  /** The record's value; integers are exact up to 2^53, as everywhere in JavaScript. */
  data: Data;
  /** What to resume from after it; empty in a snapshot. */
  position: string;
  /** Only where the stream has keys, and the record one. */
  key?: string;
  /** It is the newest record of its key, from before the subscription. */
  isSnapshot?: true;
}

/** A key that has no record any more. */
export interface Removed {
  kind: 'removed';
  stream: string;
  /** As of a reading. */
  timestamp: string;
  key: string;
  /** What to resume from after it. */
  position: string;
}

/** What the service said of the snapshot of a stream. */
export interface Snapshot {
  /** Whether a key without a record in it has none in the topic. */
  complete: boolean;
  /** If not complete: it has the keys with a record since this time; null where it is unknown. */
  since: string | null;
  /** How many keys it has; null where nobody has counted. */
  keys: number | null;
}

export type GapReason =
  | 'BAD_POSITION'
  | 'EPOCH_CHANGED'
  | 'HISTORY_EXCEEDED'
  | 'LAGGED'
  | 'POSITION_AHEAD'
  | 'RETENTION';

/** Readings that this client will not get, between its last one and `position`. */
export interface Gap {
  kind: 'gap';
  stream: string;
  /** How many at most; null where the number is unknown. */
  missed: number | null;
  /** The same for partition 0, 1, …, after a resume that was not possible in full. */
  missing: number[] | null;
  /** See docs/protocol.md; a later service may have further reasons. */
  reason: GapReason | (string & {});
  /** The earliest position that could have been resumed from. */
  earliest: string | null;
  /** Where delivery continues. */
  position: string;
}

export type Message<Data = Record<string, unknown>> = Reading<Data> | Gap;

/**
 * idle: not iterated. connecting: until the service has answered the subscription.
 * live: subscribed. waiting: between two connections.
 */
export type State = 'idle' | 'connecting' | 'live' | 'waiting';

/** Of every stream, or by stream. `735*`: every key that begins so, where the token allows it. */
export type Keys =
  | string
  | readonly string[]
  | Readonly<Record<string, string | readonly string[]>>;

/** A JWT, or null for a connection without one. */
export type Token = string | null | undefined;

/** The part of a WebSocket that the client uses: the global one, or that of the package `ws`. */
export interface Socket {
  send(data: string): void;
  close(): void;
  addEventListener(
    type: 'open' | 'message' | 'error' | 'close',
    listener: (event: any) => void,
  ): void;
}

export interface Options {
  /**
   * The JWT, or a function that returns a fresh one. It is called for every connection, and
   * whenever the service says that a token expires soon. If it throws Refused, the iteration ends,
   * or an open connection keeps its token; anything else is a failed attempt, which is repeated.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Default: `['energy']`. */
  streams?: readonly string[];
  /** Only the records with these keys. Without them: all that the token allows. */
  keys?: Keys;
  /** `positions` of an earlier client: everything after them. */
  resume?: Readonly<Record<string, string>>;
  /** An RFC 3339 time with its zone: everything since. */
  since?: string;
  /** The last N readings first. At most one of resume, since and last may be given. */
  last?: number;
  /** First the newest record of each key, as readings with `isSnapshot`. */
  snapshot?: boolean;
  /** At most so many times a second, the newest record of each key. */
  maxRate?: number;
  /** What the service does when this client falls too far behind. Default: `'skip'`. */
  onLag?: 'skip' | 'latest' | 'disconnect';
  /**
   * Called at every change of state or cause. `why`: in words for people, why the client is
   * `waiting`, or still `connecting`.
   */
  onState?: (state: State, why: string) => void;
  /** Needed where there is no global one (Node 20). */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
}

/** The service refuses this client for good: another attempt would fail the same way. */
export class Refused extends Error {
  constructor(message: string, code?: string | null, close?: number | null);
  /** The error code of the service, such as `UNAUTHORIZED`. */
  readonly code: string | null;
  /** The close code of the connection, or the HTTP status where it is known. */
  readonly close: number | null;
}

/**
 * One subscription to some streams, over as many connections as needed.
 *
 * Every reading comes once and in the order of its partition, as long as the topic keeps its
 * records; a Gap stands for readings that it no longer has. The iteration rejects with Refused when
 * the service refuses for good, and ends after `close()`. Leaving the loop ends the connection;
 * another loop continues where it ended. At most one loop at a time.
 *
 * With `keys` or `snapshot`, it also tells which keys are removed: `EnergyClient<Data, Removed>`.
 */
export class EnergyClient<Data = Record<string, unknown>, Also extends Removed = never>
  implements AsyncIterable<Message<Data> | Also>
{
  /**
   * @param url ws:, wss:, http: or https:; in a browser it may be relative to the page.
   * @throws TypeError for a URL or options that cannot be used.
   */
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  /** The number of connections so far. */
  readonly connects: number;
  /** The `resume` for another client that continues after the last message. */
  readonly positions: Record<string, string>;
  /** Of each stream, what the service said of the last snapshot. */
  readonly snapshots: Record<string, Snapshot>;
  /** How many records newer ones have superseded, under `maxRate` or `onLag` latest. */
  readonly conflated: number;
  /** Ends the iteration, for good; safe to call more than once. */
  close(): void;
  [Symbol.asyncIterator](): AsyncIterableIterator<Message<Data> | Also>;
}
