/** One record. */
export interface Reading<Data = Record<string, unknown>> {
  kind: 'reading';
  stream: string;
  /** RFC 3339, UTC, milliseconds: the record's own time in Kafka. */
  timestamp: string;
  /** The record's value; as in all of JavaScript, integers are exact up to 2^53. */
  data: Data;
  /** What to resume from after it. */
  position: string;
}

export type GapReason =
  | 'BAD_POSITION'
  | 'EPOCH_CHANGED'
  | 'HISTORY_EXCEEDED'
  | 'LAGGED'
  | 'POSITION_AHEAD'
  | 'RETENTION';

/** Readings that this client will not get, between what it had and `position`. */
export interface Gap {
  kind: 'gap';
  stream: string;
  /** How many at most; null where nobody can tell. */
  missed: number | null;
  /** The same for partition 0, 1, …, where a resume could not be fulfilled. */
  missing: number[] | null;
  /** docs/protocol.md says what each means; a later service may have more of them. */
  reason: GapReason | (string & {});
  /** The earliest position that could have been resumed from. */
  earliest: string | null;
  /** Where delivery goes on. */
  position: string;
}

export type Message<Data = Record<string, unknown>> = Reading<Data> | Gap;

/**
 * idle: nobody iterates. connecting: until the service has answered the subscription.
 * live: subscribed. waiting: between two connections.
 */
export type State = 'idle' | 'connecting' | 'live' | 'waiting';

/** A JWT, or null for a connection without one. */
export type Token = string | null | undefined;

/** What is used of a WebSocket: the global one, or that of the package `ws`. */
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
   * The JWT, or a function that gives a fresh one. It is called for every connection, and whenever
   * the service says that a token expires soon. What it throws counts as a failed attempt and is
   * tried again, unless it is a Refused: that ends the iteration, or leaves a connection that is
   * there with the token that it has.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Which streams; `['energy']` unless told. */
  streams?: readonly string[];
  /** `positions` of an earlier client: everything after them. */
  resume?: Readonly<Record<string, string>>;
  /** An RFC 3339 time with its zone: everything since. */
  since?: string;
  /** A count: the newest so many readings first. At most one of resume, since and last is given. */
  last?: number;
  /** What the service does when this client falls too far behind; `'skip'` unless told. */
  onLag?: 'skip' | 'latest' | 'disconnect';
  /**
   * Called at every change of state or cause; `why` tells people why a client is `waiting`, or still
   * `connecting`.
   */
  onState?: (state: State, why: string) => void;
  /** Where there is no global one (Node 20). */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
}

/** The service does not want this client as it is; trying again would not help. */
export class Refused extends Error {
  constructor(message: string, code?: string | null, close?: number | null);
  /** The error code of the service, such as `UNAUTHORIZED`. */
  readonly code: string | null;
  /** The close code of the connection, or the HTTP status where it is known. */
  readonly close: number | null;
}

/**
 * One subscription to some streams, over as many connections as it takes.
 *
 * Every reading comes once and in the order of its partition, as long as the topic keeps its
 * records; where it does not, a Gap says so in its place. The iteration rejects with Refused when
 * the service refuses for good, and ends after `close()`. Leaving the loop ends the connection;
 * another loop goes on where it was left. At most one loop at a time.
 */
export class EnergyClient<Data = Record<string, unknown>> implements AsyncIterable<Message<Data>> {
  /**
   * @param url ws:, wss:, http: or https:; in a browser relative to the page.
   * @throws TypeError for a URL or options that cannot be used.
   */
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  /** How many connections there were. */
  readonly connects: number;
  /** What to give as `resume` to another client that goes on after the last message given out. */
  readonly positions: Record<string, string>;
  /** Ends the iteration, for good; safe to call more than once. */
  close(): void;
  [Symbol.asyncIterator](): AsyncIterableIterator<Message<Data>>;
}
