// Command check runs the Go of docs/verifying.md, against a server and against the vectors.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"tenmint-clients/auth"
)

func setting(name string) string {
	return os.Getenv("TENMINT_" + name)
}

func check(name string, passed bool, saw any) {
	if !passed {
		fmt.Printf("not ok %s: %v\n", name, saw)
		os.Exit(1)
	}
	fmt.Printf("ok %s\n", name)
}

func againstAServer(ctx context.Context) {
	verifier, err := auth.NewVerifier(ctx)
	check("the Go of the page finds the keys", err == nil, err)
	token := setting("TOKEN")
	claims, err := auth.Verify(ctx, verifier, token)
	check("the Go of the page accepts a token", err == nil && claims.Org == setting("ORG"), err)

	part := strings.Split(token, ".")
	flip := "A"
	if part[2][0] == 'A' {
		flip = "B"
	}
	for _, bad := range []struct{ name, text string }{
		{"a tampered signature", part[0] + "." + part[1] + "." + flip + part[2][1:]},
		{"a token for another audience", setting("OTHER_TOKEN")},
		{"a token of another server", setting("FOREIGN_TOKEN")},
		{"the revocation feed", setting("FEED")},
	} {
		claims, err := auth.Verify(ctx, verifier, bad.text)
		check("the Go of the page refuses "+bad.name, err != nil, claims)
	}
}

func againstTheVectors(ctx context.Context) {
	var file struct {
		Issuer, Audience string
		Now              int64
		JWKS             json.RawMessage
		Cases            []struct {
			Name, Expect, Token string
			Strict              bool
		}
	}
	text, err := os.ReadFile(setting("VECTORS") + "/tokens.json")
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		check("the vectors can be read", false, err)
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(file.JWKS)
	}))
	defer server.Close()
	verifier := oidc.NewVerifier(file.Issuer, oidc.NewRemoteKeySet(ctx, server.URL), &oidc.Config{
		ClientID:             file.Audience,
		SupportedSigningAlgs: []string{oidc.ES256},
		Now:                  func() time.Time { return time.Unix(file.Now, 0) },
	})
	var wrong []string
	for _, one := range file.Cases {
		// without those for a strict verifier, without leeway, or signed as no key of ours is
		close := strings.HasSuffix(one.Name, " at this moment") || strings.HasSuffix(one.Name, " in a second")
		other := strings.HasSuffix(one.Name, "by EdDSA") || strings.HasSuffix(one.Name, "by RS256")
		if one.Strict || close || other {
			continue
		}
		_, err := auth.Verify(ctx, verifier, one.Token)
		if (err == nil) != (one.Expect == "valid") {
			wrong = append(wrong, fmt.Sprintf("%s: %v", one.Name, err))
		}
	}
	check("the Go of the page does what the vectors say of a token", len(wrong) == 0, strings.Join(wrong, "\n"))
}

func main() {
	ctx := oidc.ClientContext(context.Background(), &http.Client{Timeout: 20 * time.Second})
	againstAServer(ctx)
	againstTheVectors(ctx)
}
