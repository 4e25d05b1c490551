/** The declarations as an application uses them; compiled, but never run. */

import {
  EnergyClient,
  Refused,
  type Gap,
  type GapReason,
  type Message,
  type Options,
  type Reading,
  type Removed,
  type Snapshot,
  type State,
} from '../../energyws/web/energyws.js';

interface Meter {
  power: number;
}

const options: Options = {
  token: async () => 'jwt',
  streams: ['energy'] as const,
  resume: { energy: 'aa-1' },
  onLag: 'latest',
  onState: (state: State, why: string) => console.log(state, why),
  WebSocket,
};

const client = new EnergyClient<Meter>(new URL('wss://meters.test/ws/energy'), options);
const connects: number = client.connects;
const positions: Record<string, string> = client.positions;

export async function show(): Promise<string[]> {
  const shown: string[] = [];
  try {
    for await (const message of client) {
      if (message.kind === 'reading') {
        const power: number = message.data.power;
        shown.push(message.timestamp, message.position, power.toFixed(1));
      } else {
        const reason: GapReason | string = message.reason;
        const missed: number | null = message.missed;
        shown.push(`${reason} ${missed ?? 'some'} ${message.missing?.join()} ${message.earliest}`);
      }
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const [code, close]: [string | null, number | null] = [error.code, error.close];
    shown.push(error.message, code ?? '', String(close));
  }
  client.close();
  return shown;
}

const keyed = new EnergyClient<Meter, Removed>('/ws/energy', {
  keys: { energy: ['735', '736'] },
  snapshot: true,
  maxRate: 1,
});
export const alsoKeyed: Options[] = [{ keys: '735' }, { keys: ['735'] as const }];

export async function table(): Promise<Map<string, number>> {
  const rows = new Map<string, number>();
  for await (const message of keyed) {
    if (message.kind === 'reading') rows.set(message.key ?? '', message.data.power);
    else if (message.kind === 'removed') rows.delete(message.key);
  }
  const snapshot: Snapshot | undefined = keyed.snapshots.energy;
  rows.set(snapshot?.since ?? '', keyed.conflated);
  return rows;
}

const untyped: Message = { kind: 'reading', stream: '', timestamp: '', data: {}, position: '' };
const reading: Reading<Meter> = { ...untyped, kind: 'reading', data: { power: connects } };
export const signedOut = new EnergyClient('/ws/energy', {
  token: () => Promise.reject(new Refused('signed out')),
  resume: positions,
});

// @ts-expect-error a gap has no data
export const data = (gap: Gap) => gap.data;
// @ts-expect-error the kind of a message must be checked first
export const power = (message: Message<Meter>) => message.data.power;
// @ts-expect-error a removed key has no data
export const gone = (removed: Removed) => removed.data;
// @ts-expect-error onLag is one of three values
export const badLag: Options = { onLag: 'wait' };
// @ts-expect-error a token is a string
export const badToken: Options = { token: () => 7 };
// @ts-expect-error positions are read-only
client.positions = {};
// @ts-expect-error the data are those of the type argument
reading.data.voltage;
