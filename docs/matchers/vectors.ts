// Holds matcher.ts against the vectors: node docs/matchers/vectors.ts [FOLDER]

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as m from './matcher.ts'

type Case = Record<string, any>
type Check = (c: Case) => [found: unknown, expected: unknown][]

const folder = process.argv[2] ?? fileURLToPath(new URL('../../verifier/vectors', import.meta.url))
const text = (path: m.Filter | null) => path && path.join('/')

function refused<T>(call: () => T): T | null {
  try {
    return call()
  } catch (error) {
    if (error instanceof m.Malformed) return null
    throw error
  }
}

/** What is found of each text of two lists: those of which it holds, and those of which not. */
function both(c: Case, holds: string, fails: string, find: (text: string) => boolean[]) {
  const pairs = (member: string, expected: boolean) =>
    c[member].flatMap((text: string) => find(text).map((found) => [found, expected]))
  return [...pairs(holds, true), ...pairs(fails, false)]
}

const checks: Record<string, Check> = {
  filters: (c) => [[refused(() => m.parseFilter(c.text)) !== null, c.valid]],
  scopes: (c) => {
    const found = refused(() => m.parseScopes(c.text))
    return [[found && found.map((s) => [s.action, text(s.filter)]), c.scopes ?? null]]
  },
  matches: (c) => {
    const held = m.parseScopes(c.scope)
    return both(c, 'allows', 'refuses', (resource) => [m.matches(held, c.action, resource)])
  },
  covers: (c) => {
    const held = m.parseScopes(c.held)
    return both(c, 'covers', 'refuses', (text) => {
      const asked = m.parseScope(text)
      const same = held.length === 1 ? held.filter((one) => one.action === asked.action) : []
      const alone = same.map((one) => m.includes(one.filter, asked.filter))
      return [m.covers(held, asked), ...alone]
    })
  },
  intersections: (c) => {
    const [a, b] = [m.parseFilter(c.a), m.parseFilter(c.b)]
    return [[text(m.intersect(a, b)), c.both], [text(m.intersect(b, a)), c.both]]
  },
  resources: (c) => [[refused(() => m.resource(c.segments)), c.text]],
}

let [count, failed] = [0, 0]
for (const [name, check] of Object.entries(checks)) {
  const cases: Case[] = JSON.parse(readFileSync(`${folder}/${name}.json`, 'utf8')).cases
  for (const c of cases) {
    for (const [found, expected] of check(c).map((pair) => pair.map((it) => JSON.stringify(it)))) {
      count += 1
      if (found === expected) continue
      failed += 1
      console.log(`${name}: ${found} where ${expected} is right: ${JSON.stringify(c)}`)
    }
  }
}
console.log(`${count} checks, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
