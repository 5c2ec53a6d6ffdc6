/** The control's statements: one a request, which touches one row of one table. */

import { eventColumns, leaseColumns, sessionColumns } from "./control-text.ts";

const byId = "s.namespace = 'default' and s.id = $1";

const changed = (column: string, value: string) => `
    update sessions s set ${column} = ${value}, updated_at = now(), version = version + 1
    where ${byId}
    returning ${sessionColumns}`;

export const controlStatements = {
  create: `
    insert into sessions as s (id, agent_id, session_type, runtime_backend, context, created_at, updated_at,
      last_activity_at, phase_since, started_at)
    values ($1, $2, $3, $4, $5::text::jsonb, now(), now(), now(), now(), now())
    returning ${sessionColumns}`,
  get: `select ${sessionColumns} from sessions s where ${byId}`,
  checkpoint: changed("checkpoint", "$2::text::jsonb"),
  context: changed("context", "$2::text::jsonb"),
  merge: changed("context", "s.context || $2::text::jsonb"),
  phase: changed("phase", "$2"),
  heartbeat: `
    update sessions s set last_activity_at = now(), lease_expires_at = now() + make_interval(secs => lease_seconds)
    where ${byId}
    returning ${leaseColumns}`,
  list: `
    select ${sessionColumns} from sessions s where s.namespace = 'default' and s.agent_id = $1
    order by s.created_at desc, s.id desc limit $2`,
  event: `
    insert into events as e (event_id, session_id, sequence, session_version, event_type, payload, created_at)
    values ($1, $2, nextval('control_sequence'), 1, $3, $4::text::jsonb, now())
    returning ${eventColumns}`,
};

/** What the statements need beside the service's tables: the numbers of events, which no lock is waited for. */
export const controlSequence = "create sequence control_sequence as integer";
