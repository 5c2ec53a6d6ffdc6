/**
 * The fields of a session beside its documents and its lifecycle, in the order of the Session schema: the one place to
 * add one. Settings have columns of their own, for timers, claims, recovery and what finds sessions read them; details are
 * kept as one document, for the service only keeps them.
 */

/** Columns that a client sets, and their types. */
export const settingTypes = {
  exit_requested: "boolean",
  scheduled_at: "timestamptz",
  expires_at: "timestamptz",
  timeout_seconds: "int",
  waiting_timeout_seconds: "int",
  idle_timeout_seconds: "int",
  pending_timeout_seconds: "int",
  auto_recover: "boolean",
  max_attempts: "int",
  legal_hold: "boolean",
  external_id: "text",
} as const;
export type SettingName = keyof typeof settingTypes;
export const settingNames = Object.keys(settingTypes) as readonly SettingName[];

/** What some are shown as while nothing is kept of them. */
export const settingDefaults = { exit_requested: false, auto_recover: false, max_attempts: 3 } as const;

/** What has no null: to say it is to say nothing, and what begins without it begins with `false`. */
export const unclearable = "legal_hold" satisfies SettingName;

const defaults: { readonly [Name in SettingName]?: boolean | number } = settingDefaults;

/** SQL of what is kept of a setting: nothing of a default, so that to say it is no change. */
export function keptSetting(name: SettingName, value: string): string {
  if (name === unclearable) return `coalesce(${value}, false)`;
  return defaults[name] === undefined ? value : `nullif(${value}, ${defaults[name]})`;
}

/** What a client sets of them: null clears, what is absent stays. Times are RFC 3339. */
export type Settings = { readonly [Name in SettingName]?: string | number | boolean | null | undefined };

/** The keys of `details`, and the JSON text that each is shown as while it is not set. */
export const detailDefaults = {
  name: "null",
  prompt: "null",
  model: "null",
  repos: "[]",
  agents: "[]",
  active_agent: "null",
  interaction_mode: "null",
  resources: "null",
  guardrails: "null",
  metadata: "{}",
  labels: "{}",
  created_by: "null",
  checkpoint_retention: "null",
} as const;
export type DetailName = keyof typeof detailDefaults;
export const detailNames = Object.keys(detailDefaults) as readonly DetailName[];

/** JSON texts of what a client sets of them; the text `null` clears. */
export type Details = ReadonlyMap<DetailName, string>;

/** So many labels, figures and gauges a session may have: they are shown with it wherever it is. */
export const mostNames = 100;

/** How a session's work went, as its runtime tells it; JSON texts. What is undefined stays. */
export interface Outcome {
  /** An object of code, message and stack; null clears it. */
  readonly error?: string | null | undefined;
  /** Any JSON; null clears it. */
  readonly result?: string | null | undefined;
  /** Numbers by name, added to what there is. */
  readonly stats?: string | undefined;
  /** Numbers by name, in place of what there is of these names. */
  readonly statsSet?: string | undefined;
  /** Nothing is kept of the numbers that there are. */
  readonly clearStats?: boolean | undefined;
  /** Numbers by name: the greater of each and what there is stays. */
  readonly statsMax?: string | undefined;
}
