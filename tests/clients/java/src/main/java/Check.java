import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.stream.Collectors;

/** Nimbus and Spring Security fetch tokens and verify them. */
public final class Check {
    /** Past the end of every token of the main server, and past a tolerance of 60 s. */
    static final long LATER_SECONDS = 661;

    static final String ISSUER = setting("ISSUER");
    static final String ALL = sorted(Arrays.asList(setting("SCOPE").split(" ")));
    static final String ONE = setting("ONE_SCOPE");

    static String setting(String name) {
        String value = System.getenv("TENMINT_" + name);
        if (value == null) {
            throw new IllegalStateException("TENMINT_" + name + " is not set");
        }
        return value;
    }

    static void check(String name, boolean passed, Object saw) {
        if (!passed) {
            System.out.println("not ok " + name + ": " + saw);
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    static String sorted(Collection<String> scopes) {
        return scopes.stream().sorted().collect(Collectors.joining(" "));
    }

    static String tamperedPayload(String token) {
        String[] part = token.split("\\.");
        String claims = new String(Base64.getUrlDecoder().decode(part[1]), StandardCharsets.UTF_8);
        String forged = claims.replace(ONE, "*:*");
        if (forged.equals(claims)) {
            throw new IllegalStateException("no scope to tamper with");
        }
        byte[] bytes = forged.getBytes(StandardCharsets.UTF_8);
        String text = Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
        return part[0] + "." + text + "." + part[2];
    }

    static String tamperedSignature(String token) {
        String[] part = token.split("\\.");
        String flip = part[2].charAt(0) == 'A' ? "B" : "A";
        return part[0] + "." + part[1] + "." + flip + part[2].substring(1);
    }

    public static void main(String[] arguments) throws Exception {
        NimbusCheck.run();
        SpringCheck.run();
    }
}
