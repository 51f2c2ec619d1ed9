import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtDecoder;
import org.springframework.security.oauth2.jwt.JwtException;

/** The Java of docs/verifying.md, against a server. */
public final class VerifyingCheck {
    private static String setting(String name) {
        return System.getenv("TENMINT_" + name);
    }

    private static void check(String name, boolean passed, Object saw) {
        if (!passed) {
            System.out.println("not ok " + name + ": " + saw);
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    public static void main(String[] arguments) {
        JwtDecoder decoder = new TokenConfiguration().jwtDecoder();
        String token = setting("TOKEN");
        Jwt jwt = decoder.decode(token);
        String org = jwt.getClaimAsString("org");
        check("the Java of the page accepts a token", setting("ORG").equals(org), org);
        String[] part = token.split("\\.");
        String flip = part[2].charAt(0) == 'A' ? "B" : "A";
        String tampered = part[0] + "." + part[1] + "." + flip + part[2].substring(1);
        refuses("a tampered signature", decoder, tampered);
        refuses("a token for another audience", decoder, setting("OTHER_TOKEN"));
        refuses("a token of another server", decoder, setting("FOREIGN_TOKEN"));
        refuses("the revocation feed", decoder, setting("FEED"));
    }

    private static void refuses(String name, JwtDecoder decoder, String token) {
        String saw = "accepted";
        try {
            decoder.decode(token);
        } catch (JwtException error) {
            saw = "";
        }
        check("the Java of the page refuses " + name, saw.isEmpty(), saw);
    }
}
