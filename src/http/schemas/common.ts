/** What the answers of all operations have in common, beside their bodies. */

export const etagHeader = {
  ETag: { description: "The session's version, quoted.", schema: { type: "string", examples: ['"1"'] } },
};

export const locationHeader = {
  Location: { description: "Where the session is found.", schema: { type: "string", format: "uri-reference" } },
};

export const linkHeader = {
  Link: {
    description: 'The next page, as `<…>; rel="next"` (RFC 8288); absent on the last.',
    schema: { type: "string" },
  },
};
