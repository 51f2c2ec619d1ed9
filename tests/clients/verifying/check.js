// The JavaScript of docs/verifying.md, against a server and against the vectors.

import { readFileSync } from 'node:fs'
import { verify } from './verifying.js'

const env = (name) => process.env[`TENMINT_${name}`]

function check(name, passed, saw = '') {
  if (!passed) {
    console.log(`not ok ${name}: ${saw}`)
    process.exit(1)
  }
  console.log(`ok ${name}`)
}

async function outcome(token, use = verify) {
  try {
    return await use(token)
  } catch (error) {
    return error.code ?? error.name
  }
}

const token = env('TOKEN')
const claims = await outcome(token)
check('the JavaScript of the page accepts a token', claims.org === env('ORG'), claims)
const [head, payload, signature] = token.split('.')
const tampered = [head, payload, (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)].join('.')
for (const [name, text] of [
  ['a tampered signature', tampered],
  ['a token for another audience', env('OTHER_TOKEN')],
  ['a token of another server', env('FOREIGN_TOKEN')],
  ['the revocation feed', env('FEED')],
]) {
  const saw = await outcome(text)
  check(`the JavaScript of the page refuses ${name}`, typeof saw === 'string', saw)
}

// the same text once more, for the issuer, the keys and the moment of the vectors
const file = JSON.parse(readFileSync(`${env('VECTORS')}/tokens.json`, 'utf8'))
const source = readFileSync(new URL('./verifying.js', import.meta.url), 'utf8')
  .replace(env('ISSUER'), file.issuer)
  .replace("'jose'", JSON.stringify(import.meta.resolve('jose')))
globalThis.fetch = async () => Response.json(file.jwks)
globalThis.Date = class extends Date {
  constructor() {
    super(file.now * 1000)
  }
}
const again = await import(`data:text/javascript,${encodeURIComponent(source)}`)
// without those for a strict verifier, without leeway, or signed as no key of ours is
const judged = file.cases.filter(
  ({ name, strict }) => !strict && !/ at this moment$| in a second$|by EdDSA$|by RS256$/.test(name),
)
const wrong = []
for (const { name, expect, token } of judged) {
  const saw = await outcome(token, again.verify)
  if ((typeof saw === 'object') !== (expect === 'valid')) wrong.push(`${name}: ${saw}`)
}
check('the JavaScript of the page does what the vectors say of a token', !wrong.length, wrong)
