import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.oauth2.sdk.AccessTokenResponse;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.ClientSecretPost;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import java.net.URI;
import java.util.Date;
import java.util.List;
import java.util.Set;

final class NimbusCheck {
    private static final ClientID ID = new ClientID(Check.setting("CLIENT_ID"));
    private static final Secret SECRET = new Secret(Check.setting("CLIENT_SECRET"));
    private static final Secret WRONG = new Secret(Check.setting("WRONG_SECRET"));
    private static final URI TOKEN_URL = URI.create(Check.setting("TOKEN_URL"));

    static void run() throws Exception {
        Issuer issuer = new Issuer(Check.ISSUER);
        URI found = AuthorizationServerMetadata.resolve(issuer).getTokenEndpointURI();
        Check.check("Nimbus discovers an OAuth server", TOKEN_URL.equals(found), found);
        found = OIDCProviderMetadata.resolve(issuer).getTokenEndpointURI();
        Check.check("Nimbus discovers an OpenID server", TOKEN_URL.equals(found), found);

        fetches("Nimbus by Basic", new ClientSecretBasic(ID, SECRET), new ClientSecretBasic(ID, WRONG));
        fetches("Nimbus by post", new ClientSecretPost(ID, SECRET), new ClientSecretPost(ID, WRONG));

        // the SDK holds no token: its user asks again when the lifetime has passed
        AccessTokenResponse first = ask(new ClientSecretBasic(ID, SECRET), Check.ONE).toSuccessResponse();
        AccessTokenResponse second = ask(new ClientSecretBasic(ID, SECRET), Check.ONE).toSuccessResponse();
        long life = first.getTokens().getAccessToken().getLifetime();
        Check.check("Nimbus knows how long a token lives", life == 600, life);
        Check.check("Nimbus gets another token when it asks again",
            !first.getTokens().getAccessToken().equals(second.getTokens().getAccessToken()), "the same one");

        verifies();
    }

    private static void fetches(String name, ClientAuthentication right, ClientAuthentication wrong)
            throws Exception {
        String saw = outcome(ask(right, null));
        Check.check(name + " gets every scope of the key", saw.equals(Check.ALL), saw);
        saw = outcome(ask(right, Check.ONE));
        Check.check(name + " gets the scope it asks for", saw.equals(Check.ONE), saw);
        saw = outcome(ask(wrong, null));
        Check.check(name + " with a wrong secret sees invalid_client", saw.equals("invalid_client"), saw);
        saw = outcome(ask(right, Check.setting("BAD_SCOPE")));
        Check.check(name + " with a bad scope sees invalid_scope", saw.equals("invalid_scope"), saw);
    }

    private static TokenResponse ask(ClientAuthentication client, String scope) throws Exception {
        return ask(TOKEN_URL, client, scope);
    }

    private static TokenResponse ask(URI url, ClientAuthentication client, String scope) throws Exception {
        HTTPRequest request = new TokenRequest.Builder(url, client, new ClientCredentialsGrant())
            .scope(Scope.parse(scope))
            .build()
            .toHTTPRequest();
        request.setConnectTimeout(20_000);
        request.setReadTimeout(20_000);
        return TokenResponse.parse(request.send());
    }

    /** The scopes of a token in order, or the error code. */
    private static String outcome(TokenResponse answer) {
        if (!answer.indicatesSuccess()) {
            return answer.toErrorResponse().getErrorObject().getCode();
        }
        Scope scope = answer.toSuccessResponse().getTokens().getAccessToken().getScope();
        return Check.sorted(scope.toStringList());
    }

    static String fetchFor(String client, String issuer) throws Exception {
        Secret secret = new Secret(Check.setting(client + "CLIENT_SECRET"));
        ClientID id = new ClientID(Check.setting(client + "CLIENT_ID"));
        TokenResponse answer =
            ask(URI.create(issuer + "/oauth/token"), new ClientSecretBasic(id, secret), Check.ONE);
        return answer.toSuccessResponse().getTokens().getAccessToken().getValue();
    }

    private static void verifies() throws Exception {
        DefaultJWTProcessor<SecurityContext> now = processor(Check.ISSUER, JWSAlgorithm.ES256, 0);
        String token = fetchFor("", Check.ISSUER);
        JWTClaimsSet claims = now.process(token, null);
        List<String> read = List.of(claims.getStringClaim("scope"), claims.getStringClaim("org"),
            claims.getStringClaim("client_id"));
        Check.check("Nimbus accepts a token and reads scope, org and client_id",
            read.equals(List.of(Check.ONE, Check.setting("ORG"), ID.getValue())), read);
        refuses("a tampered payload", "Invalid signature", now, Check.tamperedPayload(token));
        refuses("a tampered signature", "Invalid signature", now, Check.tamperedSignature(token));
        refuses("an expired token", "Expired JWT",
            processor(Check.ISSUER, JWSAlgorithm.ES256, Check.LATER_SECONDS), token);
        refuses("a token for another audience", "aud claim", now, fetchFor("OTHER_", Check.ISSUER));
        refuses("a token of another server", "no matching key", now,
            fetchFor("SHORT_", Check.setting("SHORT_ISSUER")));

        String issuer = Check.setting("RSA_ISSUER");
        String id = processor(issuer, JWSAlgorithm.RS256, 0)
            .process(fetchFor("RSA_", issuer), null)
            .getStringClaim("client_id");
        Check.check("Nimbus accepts an RS256 token", id.equals(Check.setting("RSA_CLIENT_ID")), id);
    }

    private static DefaultJWTProcessor<SecurityContext> processor(
            String issuer, JWSAlgorithm algorithm, long ahead) throws Exception {
        JWKSource<SecurityContext> keys =
            JWKSourceBuilder.create(URI.create(issuer + "/.well-known/jwks.json").toURL()).build();
        JWTClaimsSet exact = new JWTClaimsSet.Builder().issuer(issuer).build();
        DefaultJWTProcessor<SecurityContext> processor = new DefaultJWTProcessor<>();
        processor.setJWSTypeVerifier(
            new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt")));
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(algorithm, keys));
        processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(
                Check.setting("AUDIENCE"), exact, Set.of("sub", "iat", "exp", "jti", "client_id")) {
            @Override
            protected Date currentTime() {
                return new Date(System.currentTimeMillis() + ahead * 1000);
            }
        });
        return processor;
    }

    private static void refuses(
            String what, String reason, DefaultJWTProcessor<SecurityContext> processor, String token) {
        String saw = "accepted";
        try {
            processor.process(token, null);
        } catch (Exception error) {
            saw = String.valueOf(error.getMessage());
        }
        Check.check("Nimbus refuses " + what, saw.contains(reason), saw);
    }
}
