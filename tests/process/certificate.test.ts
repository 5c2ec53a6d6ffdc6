import { spawnSync } from "node:child_process";
import { type AddressInfo, createServer } from "node:net";
import { TLSSocket } from "node:tls";
import { afterEach, expect, it, vi } from "vitest";
import { run } from "../../src/cli.ts";

/** A new key and its certificate; nothing where there is no OpenSSL. */
const { stdout: pem } = spawnSync(
  "openssl",
  ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody", "-keyout", "-", "-out", "-"],
  { encoding: "utf8" },
);

/** Stands for a PostgreSQL with a certificate that nobody has signed: it says yes to encryption, and shows it. */
const server = createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", () => {
    socket.write("S");
    new TLSSocket(socket, { isServer: true, key: pem, cert: pem }).on("error", () => {});
  });
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  server.close();
});

it.skipIf(!pem)(
  "a database whose certificate is not trusted is a sentence that says what to do, and exit code 1",
  async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    vi.stubEnv(
      "DATABASE_URL",
      `postgres://nobody@127.0.0.1:${(server.address() as AddressInfo).port}/x?sslmode=verify-full`,
    );
    expect(await run(["migrate"], "1.2.3")).toBe(1);
    expect(stderr.mock.calls.join("")).toBe(
      "The certificate of DATABASE_URL's server is not trusted: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT). " +
        "Name the file of the authority that signed it with NODE_EXTRA_CA_CERTS; ?sslmode=require encrypts and asks for no trust.\n",
    );
  },
);
