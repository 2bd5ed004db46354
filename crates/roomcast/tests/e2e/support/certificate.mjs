// A certificate of the test's own for 127.0.0.1, signed by itself.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A folder with a certificate and its key; `renew` puts new ones in their place, as whoever renews them does. */
export function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "roomcast-tls-"));
  const [chain, key] = [join(folder, "tls.crt"), join(folder, "tls.key")];
  const renew = () => {
    const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    const names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
    execFileSync("openssl", [...request, ...names, "-keyout", `${key}.new`, "-out", `${chain}.new`], { stdio: "ignore" });
    renameSync(`${key}.new`, key);
    renameSync(`${chain}.new`, chain);
  };
  renew();
  return { renew, ca: () => readFileSync(chain), env: { TLS_CERT_FILE: chain, TLS_KEY_FILE: key }, key };
}
