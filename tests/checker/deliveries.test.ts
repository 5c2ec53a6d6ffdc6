/** The checker can fail: each kind of damage to what subscribers received is told, and nothing else is. */

import { describe, expect, it } from "vitest";
import { changesChannel, type EventEvidence } from "./evidence.ts";
import { logText, parseLog } from "./read.ts";
import { eventsOf, first, gone, isOn, messageOf, type Story, saidAfter, second, story, swap } from "./story.ts";

describe("the deliveries", () => {
  const damages: [what: string, damage: (told: Story) => void, sentences: (string | RegExp)[]][] = [
    [
      "that lost a change",
      (told) => {
        told.deliveries = told.deliveries.filter((delivery) => !isOn(changesChannel, first, 3)(delivery));
      },
      ["events:session: of aaaa never came 3."],
    ],
    [
      "that lost a report",
      (told) => {
        told.deliveries = told.deliveries.filter((delivery) => !isOn(`${changesChannel}:aaaa`, first, 2)(delivery));
      },
      ["events:session:*: of aaaa never came 2."],
    ],
    [
      "in the wrong order",
      (told) => swap(told.deliveries, isOn(changesChannel, first, 3), isOn(changesChannel, first, 4)),
      ["events:session: event 3 of aaaa came first after 4."],
    ],
    [
      "in the wrong order on a session's own channel",
      (told) =>
        swap(told.deliveries, isOn(`${changesChannel}:aaaa`, first, 2), isOn(`${changesChannel}:aaaa`, first, 3)),
      ["events:session:*: event 2 of aaaa came first after 3."],
    ],
    [
      "with a change that was never made",
      (told) => {
        const [event] = eventsOf(second, [["restored", 3, { status: "active", phase: "running" }]], 3);
        told.deliveries.push({
          channel: changesChannel,
          message: messageOf({ ...event, position: 99 } as EventEvidence),
        });
      },
      ["events:session: event 3 of bbbb came with id bbbb-3, which the history does not have."],
    ],
    [
      "with other content than the history",
      (told) => {
        const place = told.deliveries.findIndex(isOn(changesChannel, first, 6));
        const message = told.deliveries[place]?.message.replace('"checkpoint"', '"context"') ?? "";
        told.deliveries[place] = { channel: changesChannel, message };
      },
      [/^events:session: event 6 of aaaa came with payload .*"context".*; the history has .*"checkpoint"/],
    ],
    [
      "with a duplicate of other content",
      (told) => {
        const again = told.deliveries.find(isOn(changesChannel, first, 3))?.message ?? "";
        told.deliveries.push({
          channel: changesChannel,
          message: again.replace('"request_id":"r"', '"request_id":"s"'),
        });
      },
      [/^events:session: event 3 of aaaa came again with other content: .*"s".* after .*"r"/],
    ],
    [
      "with a report among the changes",
      (told) => {
        const message = told.deliveries.find(isOn(`${changesChannel}:aaaa`, first, 2))?.message ?? "";
        told.deliveries.splice(2, 0, { channel: changesChannel, message });
      },
      ["events:session: event 2 of aaaa came though session.thinking has no place there."],
    ],
    [
      "on another session's channel",
      (told) => {
        const place = told.deliveries.findIndex(isOn(`${changesChannel}:aaaa`, first, 6));
        const message = told.deliveries[place]?.message ?? "";
        told.deliveries[place] = { channel: `${changesChannel}:bbbb`, message };
      },
      ["events:session:*: event 6 of aaaa came on events:session:bbbb."],
    ],
    [
      "on a channel that nobody knows",
      (told) => told.deliveries.push({ channel: "events:sessions", message: "{}" }),
      ["A message came on events:sessions, which is none of the channels."],
    ],
    [
      "with what is no event",
      (told) => told.deliveries.push({ channel: changesChannel, message: "hello" }),
      ["events:session: what came is no event: hello"],
    ],
  ];
  it.each(damages)("%s are told, and nothing else is", (_, damage, sentences) => {
    expect(saidAfter(damage)).toEqual(
      sentences.map((sentence) => (typeof sentence === "string" ? sentence : expect.stringMatching(sentence))),
    );
  });

  it("may come twice, in any order after the first time", () => {
    expect(saidAfter((told) => told.deliveries.push(...told.deliveries.toReversed()))).toEqual([]);
  });

  it("that nobody listened to are not missed", () => {
    expect(
      saidAfter((told) => {
        told.subscribed.delete(`${changesChannel}:*`);
        told.deliveries = told.deliveries.filter(({ channel }) => channel === changesChannel);
      }),
    ).toEqual([]);
  });

  it("of a purged session are not missed, nor held against anybody, but for its end", () => {
    const end = isOn(changesChannel, gone, 3);
    const damaged = (told: Story) => {
      told.deliveries = told.deliveries.filter((delivery) => !end(delivery));
    };
    expect(saidAfter(damaged)).toEqual(["events:session: of cccc never came 3."]);
  });

  it("are the same after they were written to a log and read again", () => {
    const { subscribed, deliveries } = story();
    expect(parseLog(logText({ subscribed, deliveries }))).toEqual({ subscribed, deliveries });
    expect(() => parseLog('{"channel":"events:session"}\n')).toThrow(/^line 1 is neither/);
  });
});

describe("the stream", () => {
  it("that lost an entry, by whatever end, is told", () => {
    expect(saidAfter((told) => told.entries.splice(1, 1))).toEqual(["stream:events:session: of aaaa never came 3."]);
    expect(saidAfter((told) => told.entries.shift())).toEqual(["stream:events:session: of aaaa never came 1."]);
    expect(saidAfter((told) => told.entries.pop())).toEqual(["stream:events:session: of cccc never came 3."]);
  });

  it("that was trimmed, or has forgotten, is judged from its oldest entry on", () => {
    const trimmed = (told: Story) => {
      told.entries = told.entries.slice(2);
      told.maxLength = told.entries.length;
    };
    expect(saidAfter(trimmed)).toEqual([]);
    const forgetful = (told: Story) => {
      told.entries = told.entries.slice(2);
      told.forgot = true;
    };
    expect(saidAfter(forgetful)).toEqual([]);
    const both = (told: Story) => {
      forgetful(told);
      told.entries.splice(1, 1);
    };
    expect(saidAfter(both)).toEqual(["stream:events:session: of aaaa never came 5."]);
  });

  it("in the wrong order is told", () => {
    const inverted = (told: Story) => {
      const [one, two, ...rest] = told.entries;
      told.entries = [two, one, ...rest].flatMap((entry) => entry ?? []);
    };
    expect(saidAfter(inverted)).toEqual(["stream:events:session: event 1 of aaaa came first after 3."]);
  });

  it("may hold an entry twice under another id, and only with the same fields", () => {
    const again = (told: Story) => told.entries.push({ id: "99-0", fields: told.entries[0]?.fields ?? {} });
    expect(saidAfter(again)).toEqual([]);
    const other = (told: Story) => {
      again(told);
      told.entries[0] = { id: "1-0", fields: { ...told.entries[0]?.fields, created_at: "yesterday" } };
    };
    expect(saidAfter(other)).toEqual([
      expect.stringMatching(/^stream:events:session: event 1 of aaaa came again with other content/),
    ]);
  });
});
