// node-oidc-provider as a peer of `cargo bench --bench token_endpoint`: client credentials in, a JWT signed
// with ES256 out, all in memory. `node server.js PORT`; the client is `bench` with the secret `secret`.
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const port = process.argv[2];
const issuer = `http://127.0.0.1:${port}`;
const resource = `${issuer}/api`;
const scope = 'read:projects';
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const resourceServer = {
  scope,
  audience: resource,
  accessTokenTTL: 600,
  accessTokenFormat: 'jwt',
  jwt: { sign: { alg: 'ES256' } },
};

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'bench',
    client_secret: 'secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
  }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'bench', use: 'sig', alg: 'ES256' }] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      getResourceServerInfo: () => resourceServer,
    },
  },
});
provider.listen(port, '127.0.0.1');
