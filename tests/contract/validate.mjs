/**
 * Prints what the official parser finds in AsyncAPI documents, one line of JSON each:
 * `node validate.mjs PACKAGES FILE…`, where PACKAGES has @asyncapi/parser.
 */

import { createRequire } from 'node:module';

const [packages, ...files] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${packages}/`)('@asyncapi/parser');
for (const file of files) {
  const { diagnostics } = await fromFile(new Parser(), file).parse();
  for (const { severity, message } of diagnostics) {
    console.log(JSON.stringify({ file, severity, message }));
  }
}
