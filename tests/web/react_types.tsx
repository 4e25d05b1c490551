/** The package as an application with React uses it; compiled, but never run. */

import { EnergyClient, type Message, type Removed } from 'energyws';
import { useEnergy, type Energy, type EnergyOptions } from 'energyws/react';

interface Meter {
  power: number;
}

const options: EnergyOptions = { token: async () => 'jwt', last: 60, keep: 60 };

export function Power({ url }: { url: string }) {
  const energy: Energy<Meter> = useEnergy<Meter>(url, options);
  const { state, why, latest, messages, positions, error } = energy;
  if (error !== null) return <p role="alert">{error.message}</p>;
  const gaps: number = messages.filter((message) => message.kind === 'gap').length;
  const power: number | undefined = latest?.data.power;
  return (
    <p data-state={state} title={why}>
      {power?.toFixed(1)} W, {gaps} gaps, {positions.energy}
    </p>
  );
}

export function OneMeter({ meter }: { meter: string }) {
  const asked: EnergyOptions = { keys: meter, snapshot: true, maxRate: 1 };
  const { messages, snapshots, conflated } = useEnergy<Meter, Removed>('/ws/energy', asked);
  const removed: string[] = messages.flatMap((each) => (each.kind === 'removed' ? [each.key] : []));
  return <p title={`${snapshots.energy?.complete} ${conflated}`}>{removed.join()}</p>;
}

export const untyped = (message: Message) => message.position;
export const client = new EnergyClient<Meter>(new URL('wss://meters.test/ws/energy'));

export function Wrong() {
  // @ts-expect-error the hook has the state itself
  useEnergy('/ws/energy', { onState: () => {} });
  // @ts-expect-error a number of messages
  useEnergy('/ws/energy', { keep: 'all' });
  const { latest, messages } = useEnergy<Meter>('/ws/energy');
  // @ts-expect-error there may be no reading yet
  latest.data;
  // @ts-expect-error a component must not change what others have, too
  messages.push(latest);
  return null;
}
