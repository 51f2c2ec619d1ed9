// What the scopes of a tenmint token allow, in TypeScript without a dependency.
//
// Copy this file. Verify the token first, then ask `allows`: nothing here looks at a signature.

/** The segments of a path, each a literal or a wildcard. A resource is one without wildcards. */
export type Filter = readonly string[]
export type Scope = { readonly action: string; readonly filter: Filter }
export type Claims = { readonly org: string; readonly scope: string }

const plain = /^[A-Za-z0-9._~:@=-]$/
const escapes = Array.from({ length: 256 }, (_, byte) => byte)
  // an escape of a byte that stands for itself would be a second spelling of it
  .filter((byte) => !plain.test(String.fromCharCode(byte)))
  .map(escape)
const literal = new RegExp(`^(?:[A-Za-z0-9._~:@=-]|${escapes.join('|')}){1,128}$`)
const name = /^[a-z][a-z0-9._-]{0,63}$/
const needsFilter = ['read', 'write', 'admin', '*']

/** Input that is not canonical: it is refused, never repaired. */
export class Malformed extends Error {}

/**
 * Whether verified claims allow this action on the resource of these raw segments. `org` is the
 * organization whose data this is, as the API knows it, never as the token says it.
 */
export function allows(claims: Claims, org: string, action: string, segments: string[]): boolean {
  const scopes = parseScopes(claims.scope)
  return claims.org === org && matches(scopes, action, resource(segments))
}

/** Whether one of the scopes allows this action on this resource, as `resource` made it. */
export function matches(scopes: readonly Scope[], action: string, resource: string): boolean {
  const path = resource.split('/')
  return scopes.some((s) => (s.action === '*' || s.action === action) && includes(s.filter, path))
}

/** The resource of raw segments. Never cut one out of a URL: routers decode, this does not. */
export function resource(segments: readonly string[]): string {
  if (segments.length === 0 || segments.some((segment) => ['', '.', '..'].includes(segment))) {
    throw new Malformed('a resource has segments, none of them empty, `.` or `..`')
  }
  return segments.map(encode).join('/')
}

function encode(segment: string): string {
  // a lone surrogate has no UTF-8: encoded all the same, two texts would be one resource
  if (!segment.isWellFormed()) throw new Malformed('a segment is no Unicode text')
  return Array.from(new TextEncoder().encode(segment), (byte) => {
    const character = String.fromCharCode(byte)
    return plain.test(character) ? character : escape(byte)
  }).join('')
}

function escape(byte: number): string {
  return '%' + byte.toString(16).toUpperCase().padStart(2, '0')
}

/** The scopes of a scope string. One bad scope spoils all. */
export function parseScopes(text: string): Scope[] {
  const tokens = text.split(' ')
  if (text.length > 4096 || tokens.length > 64) {
    throw new Malformed('a scope string has at most 64 scopes and 4096 bytes')
  }
  return tokens.map(parseScope)
}

export function parseScope(token: string): Scope {
  const colon = token.indexOf(':')
  const action = colon < 0 ? token : token.slice(0, colon)
  if (action !== '*' && !name.test(action)) throw new Malformed(`no action: ${token}`)
  if (colon < 0 && needsFilter.includes(action)) throw new Malformed(`no filter: ${token}`)
  return { action, filter: parseFilter(colon < 0 ? '*' : token.slice(colon + 1)) }
}

export function parseFilter(text: string): Filter {
  const segments = text.split('/')
  if (text.length > 512 || segments.length > 16) {
    throw new Malformed('a filter has at most 16 segments and 512 bytes')
  }
  segments.forEach((segment, at) => {
    const wildcard = segment === '*' || (segment === '?' && at === segments.length - 1)
    if (!wildcard && (['.', '..'].includes(segment) || !literal.test(segment))) {
      throw new Malformed(`segment ${at + 1} of ${text} is not canonical`)
    }
  })
  return segments
}

const isWildcard = (segment: string | undefined) => segment === '*' || segment === '?'
const isOpen = (path: Filter) => path.at(-1) === '*'
const stars = (count: number): string[] => Array<string>(Math.max(count, 0)).fill('*')

/** Whether every resource of `narrow` is one of `wide`; a resource is a filter too. */
export function includes(wide: Filter, narrow: Filter): boolean {
  const same = narrow.length === wide.length && !isOpen(narrow)
  const fits = isOpen(wide) ? narrow.length >= wide.length : same
  return fits && wide.every((segment, at) => isWildcard(segment) || segment === narrow[at])
}

/** Whether the scopes together allow all that `asked` does. Exact; no API needs it to check. */
export function covers(held: readonly Scope[], asked: Scope): boolean {
  const joined = held.filter((scope) => scope.action === '*' || scope.action === asked.action)
  const longest = Math.max(0, ...joined.map((scope) => scope.filter.length))
  const alone = (part: Filter) => joined.some((scope) => includes(scope.filter, part))
  return parts(asked.filter, longest).every(alone)
}

// `a/*` by the number of segments: `a/?`, `a/*/?` and so on, then all that are longer. A wildcard
// takes literals that no filter names, so filters cover a part together only if one does alone.
function parts(path: Filter, longest: number): Filter[] {
  if (!isOpen(path)) return [path]
  const more = Math.max(longest - path.length, 0)
  const exact = stars(more).map((_, at) => [...path.slice(0, -1), ...stars(at), '?'])
  return [...exact, [...path.slice(0, -1), ...stars(more), '*']]
}

/** The resources that both filters select: one filter, to push into a query, or none. */
export function intersect(a: Filter, b: Filter): Filter | null {
  const length = Math.max(a.length, b.length)
  if ([a, b].some((path) => path.length < length && !isOpen(path))) return null
  const [x, y] = [a, b].map((path) => [...path, ...stars(length - path.length)])
  const both = x!.map((segment, at) => (isWildcard(segment) ? y![at]! : segment))
  if (both.some((segment, at) => segment !== y![at] && !isWildcard(y![at]))) return null
  if (isWildcard(both.at(-1))) both[length - 1] = isOpen(a) && isOpen(b) ? '*' : '?'
  return both
}
