/** Kinds of columns that drizzle has not. */

import { customType, timestamp } from "drizzle-orm/pg-core";

/** Documents travel as text in both directions, so that no digit of a number passes through a double. */
export const jsonText = customType<{ data: string; driverData: string }>({ dataType: () => "jsonb" });

export const positions = customType<{ data: string; driverData: string }>({ dataType: () => "int8multirange" });

export const time = (name: string) => timestamp(name, { withTimezone: true, precision: 6, mode: "string" });
