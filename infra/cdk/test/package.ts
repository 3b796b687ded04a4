/** A package as it is installed, made from the template of this checkout. */

import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where infra/template.yaml is. */
const TEMPLATE = process.env["SES_BREAKER_TEMPLATE"] ?? join(__dirname, "../../template.yaml");

/** The folder of a package whose functions are empty, with a change of its template. */
export function packaged(change: (template: string) => string = (template) => template): string {
  const folder = mkdtempSync(join(tmpdir(), "ses-breaker-package-"));
  for (const architecture of ["arm64", "x86_64"]) {
    mkdirSync(join(folder, "functions", architecture), { recursive: true });
    for (const name of ["ingest", "breaker", "enforcer", "warmup", "gate"]) {
      writeFileSync(join(folder, "functions", architecture, `${name}.zip`), `${architecture} ${name}`);
    }
  }
  const code = (_: string, name: string) => `CodeUri: { Bucket: !Ref CodeBucket, Key: !Sub "\${CodePrefix}${name}.zip" }`;
  const template = readFileSync(TEMPLATE, "utf8")
    .replace(/CodeUri: \.\.\/target\/lambda\/(\w+)\//g, code)
    .replace(/^Parameters:$/m, "Parameters:\n  CodeBucket:\n    Type: String\n  CodePrefix:\n    Type: String");
  writeFileSync(join(folder, "template.yaml"), change(template));
  return folder;
}
