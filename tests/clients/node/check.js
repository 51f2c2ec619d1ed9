// openid-client and simple-oauth2 fetch tokens; jose and oauth4webapi verify them.

import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { ClientCredentials } from 'simple-oauth2'

const env = (name) => process.env[`TENMINT_${name}`]
const issuer = env('ISSUER')
const id = env('CLIENT_ID')
const secret = env('CLIENT_SECRET')
const wrong = env('WRONG_SECRET')
const audience = env('AUDIENCE')
const all = env('SCOPE')
const one = env('ONE_SCOPE')
const bad = env('BAD_SCOPE')

function check(name, passed, saw = '') {
  if (!passed) {
    console.log(`not ok ${name}: ${saw}`)
    process.exit(1)
  }
  console.log(`ok ${name}`)
}

const sorted = (scope) => scope.split(' ').sort().join(' ')

/** What `code` finds in the error that `call` throws. */
async function failure(call, code) {
  try {
    await call()
    return 'no error'
  } catch (error) {
    return code(error) ?? `${error.name} ${error.code ?? ''}`
  }
}

const loopback = { execute: [openid.allowInsecureRequests] }

function discover(method, text, options = loopback) {
  return openid.discovery(new URL(issuer), id, undefined, method(text), options)
}

async function checkOpenidClient() {
  // where an answer carries a challenge, the library reads the code from there
  const code = (error) => error.error ?? error.cause?.[0]?.parameters?.error
  const ways = [
    ['Basic', openid.ClientSecretBasic],
    ['post', openid.ClientSecretPost],
  ]
  for (const [way, method] of ways) {
    const name = `openid-client by ${way}`
    const right = await discover(method, secret)
    let token = await openid.clientCredentialsGrant(right)
    check(`${name} gets every scope of the key`, sorted(token.scope) === sorted(all), token.scope)
    token = await openid.clientCredentialsGrant(right, { scope: one })
    check(`${name} gets the scope it asks for`, token.scope === one, token.scope)
    const stranger = await discover(method, wrong)
    let saw = await failure(() => openid.clientCredentialsGrant(stranger), code)
    check(`${name} with a wrong secret sees invalid_client`, saw === 'invalid_client', saw)
    saw = await failure(() => openid.clientCredentialsGrant(right, { scope: bad }), code)
    check(`${name} with a bad scope sees invalid_scope`, saw === 'invalid_scope', saw)
  }

  const oauth2 = await discover(openid.ClientSecretBasic, secret, {
    ...loopback,
    algorithm: 'oauth2',
  })
  const token = await openid.clientCredentialsGrant(oauth2, { scope: one })
  check('openid-client discovers an OAuth server too', token.scope === one, token.scope)
  const left = token.expiresIn()
  check('openid-client knows how long a token lives', left > 590 && left <= 600, left)
  const again = await openid.clientCredentialsGrant(oauth2, { scope: one })
  check('openid-client gets another token when it asks again', again.access_token !== token.access_token)
}

async function checkSimpleOauth2() {
  const code = (error) => error.data?.payload?.error
  const client = (authorizationMethod, text, more = {}) =>
    new ClientCredentials({
      client: { id, secret: text },
      auth: { tokenHost: issuer, tokenPath: '/oauth/token' },
      options: { authorizationMethod, ...more },
    })
  const ways = [
    ['Basic', 'header', {}],
    ['Basic, its loose encoding,', 'header', { credentialsEncodingMode: 'loose' }],
    ['post', 'body', {}],
  ]
  for (const [way, method, more] of ways) {
    const name = `simple-oauth2 by ${way}`
    const right = client(method, secret, more)
    let { token } = await right.getToken({})
    check(`${name} gets every scope of the key`, sorted(token.scope) === sorted(all), token.scope)
    token = (await right.getToken({ scope: one })).token
    check(`${name} gets the scope it asks for`, token.scope === one, token.scope)
    let saw = await failure(() => client(method, wrong, more).getToken({}), code)
    check(`${name} with a wrong secret sees invalid_client`, saw === 'invalid_client', saw)
    saw = await failure(() => right.getToken({ scope: bad }), code)
    check(`${name} with a bad scope sees invalid_scope`, saw === 'invalid_scope', saw)
  }

  const right = client('header', secret)
  let held = await right.getToken({ scope: one })
  const first = held.token.access_token
  check('simple-oauth2 keeps a token that is good', !held.expired(60), held.token.expires_at)
  held = right.createToken({ ...held.token, expires_at: new Date(Date.now() - 1000) })
  const due = held.expired()
  if (due) held = await right.getToken({ scope: one })
  check('simple-oauth2 renews an expired token', due && held.token.access_token !== first)
}

async function fetchFor(client, text, server = issuer) {
  const config = await openid.discovery(
    new URL(server), client, undefined, openid.ClientSecretBasic(text), loopback,
  )
  return (await openid.clientCredentialsGrant(config, { scope: one })).access_token
}

function tamperedPayload(token) {
  const [head, payload, signature] = token.split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url'))
  const forged = Buffer.from(JSON.stringify({ ...claims, scope: '*:*' })).toString('base64url')
  return [head, forged, signature].join('.')
}

function tamperedSignature(token) {
  const [head, payload, signature] = token.split('.')
  return [head, payload, (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)].join('.')
}

async function checkJose() {
  const jwks = jose.createRemoteJWKSet(new URL(env('JWKS_URL')))
  const verify = (token, more = {}) =>
    jose.jwtVerify(token, jwks, { issuer, audience, typ: 'at+jwt', ...more })
  const refuses = async (what, code, token, more) => {
    const saw = await failure(() => verify(token, more), (error) => error.code)
    check(`jose refuses ${what}`, saw === code, saw)
  }

  const token = await fetchFor(id, secret)
  const { payload } = await verify(token)
  const read = [payload.scope, payload.org, payload.client_id].join(' ')
  check(
    'jose accepts a token and reads scope, org and client_id',
    read === [one, env('ORG'), id].join(' '), read,
  )
  await refuses('a tampered payload', 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED', tamperedPayload(token))
  await refuses('a tampered signature', 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED', tamperedSignature(token))
  const later = new Date(Date.now() + 601_000)
  await refuses('an expired token', 'ERR_JWT_EXPIRED', token, { currentDate: later })
  const other = await fetchFor(env('OTHER_CLIENT_ID'), env('OTHER_CLIENT_SECRET'))
  await refuses('a token for another audience', 'ERR_JWT_CLAIM_VALIDATION_FAILED', other)
  const foreign = await fetchFor(
    env('SHORT_CLIENT_ID'), env('SHORT_CLIENT_SECRET'), env('SHORT_ISSUER'),
  )
  await refuses('a token of another server', 'ERR_JWKS_NO_MATCHING_KEY', foreign)

  const rsa = jose.createRemoteJWKSet(new URL('/.well-known/jwks.json', env('RSA_ISSUER')))
  const options = { issuer: env('RSA_ISSUER'), audience, typ: 'at+jwt', algorithms: ['RS256'] }
  const signed = await fetchFor(env('RSA_CLIENT_ID'), env('RSA_CLIENT_SECRET'), env('RSA_ISSUER'))
  const saw = await failure(() => jose.jwtVerify(signed, rsa, options), (error) => error.message)
  check('jose accepts an RS256 token', saw === 'no error', saw)
}

/** The strict reading of RFC 9068. */
async function checkOauth4webapi() {
  const insecure = { [oauth.allowInsecureRequests]: true }
  const discovered = async (url) =>
    oauth.processDiscoveryResponse(
      url, await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
    )
  const main = await discovered(new URL(issuer))
  const validate = (token, more = {}, server = main) => {
    const request = new Request('https://api.example.com/', {
      headers: { authorization: `Bearer ${token}` },
    })
    return oauth.validateJwtAccessToken(server, request, audience, { ...insecure, ...more })
  }
  const refuses = async (what, code, token, more) => {
    const saw = await failure(() => validate(token, more), (error) => error.code)
    check(`oauth4webapi refuses ${what}`, saw === code, saw)
  }

  const token = await fetchFor(id, secret)
  const claims = await validate(token)
  check('oauth4webapi accepts a token by RFC 9068', claims.scope === one && claims.client_id === id)
  await refuses('a tampered payload', 'OAUTH_INVALID_RESPONSE', tamperedPayload(token))
  // it tolerates 30 s by itself
  const later = { [oauth.clockSkew]: 631 }
  await refuses('an expired token', 'OAUTH_JWT_TIMESTAMP_CHECK_FAILED', token, later)
  const other = await fetchFor(env('OTHER_CLIENT_ID'), env('OTHER_CLIENT_SECRET'))
  await refuses('a token for another audience', 'OAUTH_JWT_CLAIM_COMPARISON_FAILED', other)

  const rsa = await discovered(new URL(env('RSA_ISSUER')))
  const signed = await fetchFor(env('RSA_CLIENT_ID'), env('RSA_CLIENT_SECRET'), env('RSA_ISSUER'))
  const saw = await failure(() => validate(signed, {}, rsa), (error) => error.message)
  check('oauth4webapi accepts an RS256 token', saw === 'no error', saw)
}

await checkOpenidClient()
await checkSimpleOauth2()
await checkJose()
await checkOauth4webapi()
