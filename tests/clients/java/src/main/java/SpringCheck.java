import java.time.Clock;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.springframework.security.oauth2.client.AuthorizedClientServiceOAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.ClientCredentialsOAuth2AuthorizedClientProvider;
import org.springframework.security.oauth2.client.InMemoryOAuth2AuthorizedClientService;
import org.springframework.security.oauth2.client.OAuth2AuthorizeRequest;
import org.springframework.security.oauth2.client.endpoint.OAuth2ClientCredentialsGrantRequest;
import org.springframework.security.oauth2.client.endpoint.RestClientClientCredentialsTokenResponseClient;
import org.springframework.security.oauth2.client.registration.ClientRegistration;
import org.springframework.security.oauth2.client.registration.ClientRegistrations;
import org.springframework.security.oauth2.client.registration.InMemoryClientRegistrationRepository;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.core.ClientAuthenticationMethod;
import org.springframework.security.oauth2.core.OAuth2AuthorizationException;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtException;
import org.springframework.security.oauth2.jwt.JwtTimestampValidator;
import org.springframework.security.oauth2.jwt.JwtValidators;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;

final class SpringCheck {
    /** All that Spring tells of a failure whose status is not 400: RFC 6749 wants 401 here. */
    private static final String IN_TEXT = "invalid_client in the text of invalid_token_response";

    static void run() throws Exception {
        fetches("Spring by Basic", ClientAuthenticationMethod.CLIENT_SECRET_BASIC, IN_TEXT);
        fetches("Spring by post", ClientAuthenticationMethod.CLIENT_SECRET_POST, "invalid_client");
        renews();
        verifies();
    }

    private static ClientRegistration client(
            ClientAuthenticationMethod method, String secret, String... scopes) {
        return client(Check.ISSUER, Check.setting("CLIENT_ID"), method, secret, scopes);
    }

    private static ClientRegistration client(String issuer, String id,
            ClientAuthenticationMethod method, String secret, String... scopes) {
        return ClientRegistrations.fromIssuerLocation(issuer)
            .registrationId("tenmint")
            .clientId(id)
            .clientSecret(secret)
            .clientAuthenticationMethod(method)
            .authorizationGrantType(AuthorizationGrantType.CLIENT_CREDENTIALS)
            .scope(scopes)
            .build();
    }

    private static void fetches(String name, ClientAuthenticationMethod method, String unknown) {
        String right = Check.setting("CLIENT_SECRET");
        String saw = outcome(client(method, right));
        Check.check(name + " gets every scope of the key", saw.equals(Check.ALL), saw);
        saw = outcome(client(method, right, Check.ONE));
        Check.check(name + " gets the scope it asks for", saw.equals(Check.ONE), saw);
        saw = outcome(client(method, Check.setting("WRONG_SECRET")));
        Check.check(name + " with a wrong secret sees " + unknown, saw.equals(unknown), saw);
        saw = outcome(client(method, right, Check.setting("BAD_SCOPE")));
        Check.check(name + " with a bad scope sees invalid_scope", saw.equals("invalid_scope"), saw);
    }

    /** The scopes of a token in order, or the error code. */
    private static String outcome(ClientRegistration client) {
        try {
            Set<String> scopes = new RestClientClientCredentialsTokenResponseClient()
                .getTokenResponse(new OAuth2ClientCredentialsGrantRequest(client))
                .getAccessToken()
                .getScopes();
            return Check.sorted(scopes);
        } catch (OAuth2AuthorizationException error) {
            String code = error.getError().getErrorCode();
            boolean inText = code.equals("invalid_token_response")
                && error.getMessage().contains("\"error\":\"invalid_client\"");
            return inText ? IN_TEXT : code;
        }
    }

    private static void renews() {
        ClientCredentialsOAuth2AuthorizedClientProvider provider =
            new ClientCredentialsOAuth2AuthorizedClientProvider();
        AuthorizedClientServiceOAuth2AuthorizedClientManager manager =
            manager(provider, "", Check.ISSUER);
        String first = held(manager);
        Check.check("Spring keeps a token that is good", first.equals(held(manager)), "another");
        provider.setClock(ahead());
        Check.check("Spring renews an expired token", !first.equals(held(manager)), "the same one");

        manager = manager(new ClientCredentialsOAuth2AuthorizedClientProvider(),
            "SHORT_", Check.setting("SHORT_ISSUER"));
        first = held(manager);
        Check.check("Spring renews a token that lives 60 s", !first.equals(held(manager)), "the same one");
    }

    private static AuthorizedClientServiceOAuth2AuthorizedClientManager manager(
            ClientCredentialsOAuth2AuthorizedClientProvider provider, String client, String issuer) {
        InMemoryClientRegistrationRepository clients =
            new InMemoryClientRegistrationRepository(client(
                issuer, Check.setting(client + "CLIENT_ID"),
                ClientAuthenticationMethod.CLIENT_SECRET_BASIC,
                Check.setting(client + "CLIENT_SECRET"), Check.ONE));
        AuthorizedClientServiceOAuth2AuthorizedClientManager manager =
            new AuthorizedClientServiceOAuth2AuthorizedClientManager(
                clients, new InMemoryOAuth2AuthorizedClientService(clients));
        manager.setAuthorizedClientProvider(provider);
        return manager;
    }

    private static String held(AuthorizedClientServiceOAuth2AuthorizedClientManager manager) {
        OAuth2AuthorizeRequest request =
            OAuth2AuthorizeRequest.withClientRegistrationId("tenmint").principal("job").build();
        return manager.authorize(request).getAccessToken().getTokenValue();
    }

    private static Clock ahead() {
        return Clock.offset(Clock.systemUTC(), Duration.ofSeconds(Check.LATER_SECONDS));
    }

    private static void verifies() throws Exception {
        NimbusJwtDecoder now = decoder(Check.ISSUER, Clock.systemUTC());
        String token = NimbusCheck.fetchFor("", Check.ISSUER);
        Jwt jwt = now.decode(token);
        List<String> read = List.of(jwt.getClaimAsString("scope"), jwt.getClaimAsString("org"),
            jwt.getClaimAsString("client_id"));
        Check.check("Spring accepts a token and reads scope, org and client_id",
            read.equals(List.of(Check.ONE, Check.setting("ORG"), Check.setting("CLIENT_ID"))), read);
        refuses("a tampered payload", "Invalid signature", now, Check.tamperedPayload(token));
        refuses("a tampered signature", "Invalid signature", now, Check.tamperedSignature(token));
        refuses("an expired token", "expired", decoder(Check.ISSUER, ahead()), token);
        refuses("a token for another audience", "aud", now,
            NimbusCheck.fetchFor("OTHER_", Check.ISSUER));
        refuses("a token of another server", "no matching key", now,
            NimbusCheck.fetchFor("SHORT_", Check.setting("SHORT_ISSUER")));

        String issuer = Check.setting("RSA_ISSUER");
        String id = decoder(issuer, Clock.systemUTC())
            .decode(NimbusCheck.fetchFor("RSA_", issuer))
            .getClaimAsString("client_id");
        Check.check("Spring accepts an RS256 token", id.equals(Check.setting("RSA_CLIENT_ID")), id);
    }

    private static NimbusJwtDecoder decoder(String issuer, Clock clock) {
        JwtTimestampValidator timestamps = new JwtTimestampValidator();
        timestamps.setClock(clock);
        // out of the box it takes `typ` JWT alone
        NimbusJwtDecoder decoder =
            NimbusJwtDecoder.withIssuerLocation(issuer).validateType(false).build();
        decoder.setJwtValidator(JwtValidators.createAtJwtValidator()
            .issuer(issuer)
            .audience(Check.setting("AUDIENCE"))
            .validators(validators -> validators.put("clock", timestamps))
            .build());
        return decoder;
    }

    private static void refuses(String what, String reason, NimbusJwtDecoder decoder, String token) {
        String saw = "accepted";
        try {
            decoder.decode(token);
        } catch (JwtException error) {
            saw = String.valueOf(error.getMessage());
        }
        Check.check("Spring refuses " + what, saw.contains(reason), saw);
    }
}
