/** Prints what the official parser finds in an AsyncAPI document, one line of JSON each. */

import { createRequire } from 'node:module';

const [packages, file] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${packages}/`)('@asyncapi/parser');
const { diagnostics } = await fromFile(new Parser(), file).parse();
for (const { severity, code, path, message } of diagnostics) {
  console.log(JSON.stringify({ severity, code, path, message }));
}
