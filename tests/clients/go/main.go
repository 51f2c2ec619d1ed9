// Command tenmint-clients fetches tokens with golang.org/x/oauth2 and verifies them with go-oidc.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func setting(name string) string {
	value := os.Getenv("TENMINT_" + name)
	if value == "" {
		fmt.Printf("TENMINT_%s is not set\n", name)
		os.Exit(1)
	}
	return value
}

func check(name string, passed bool, saw any) {
	if !passed {
		fmt.Printf("not ok %s: %v\n", name, saw)
		os.Exit(1)
	}
	fmt.Printf("ok %s\n", name)
}

func client(secret string, style oauth2.AuthStyle, scopes ...string) *clientcredentials.Config {
	return &clientcredentials.Config{
		ClientID:     setting("CLIENT_ID"),
		ClientSecret: secret,
		TokenURL:     setting("TOKEN_URL"),
		AuthStyle:    style,
		Scopes:       scopes,
	}
}

// granted is the sorted scope of the answer, or what went wrong instead.
func granted(token *oauth2.Token, err error) string {
	if err != nil {
		return code(nil, err)
	}
	if left := time.Until(token.Expiry); token.Type() != "Bearer" || left < 590*time.Second || left > 600*time.Second {
		return fmt.Sprintf("%s for %s", token.Type(), left)
	}
	scope, _ := token.Extra("scope").(string)
	return sorted(scope)
}

func code(_ *oauth2.Token, err error) string {
	var refused *oauth2.RetrieveError
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &refused):
		return refused.ErrorCode
	default:
		return err.Error()
	}
}

func sorted(scope string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(scope))), " ")
}

func checkClientCredentials(ctx context.Context) {
	secret, wrong := setting("CLIENT_SECRET"), setting("WRONG_SECRET")
	all, one, bad := sorted(setting("SCOPE")), setting("ONE_SCOPE"), setting("BAD_SCOPE")
	for _, way := range []struct {
		name  string
		style oauth2.AuthStyle
	}{
		{"by Basic", oauth2.AuthStyleInHeader},
		{"by post", oauth2.AuthStyleInParams},
		{"by trying", oauth2.AuthStyleAutoDetect},
	} {
		name := "x/oauth2 " + way.name
		saw := granted(client(secret, way.style).Token(ctx))
		check(name+" gets every scope of the key", saw == all, saw)
		saw = granted(client(secret, way.style, one).Token(ctx))
		check(name+" gets the scope it asks for", saw == one, saw)
		saw = code(client(wrong, way.style).Token(ctx))
		check(name+" with a wrong secret sees invalid_client", saw == "invalid_client", saw)
		saw = code(client(secret, way.style, bad).Token(ctx))
		check(name+" with a bad scope sees invalid_scope", saw == "invalid_scope", saw)
	}

	source := client(secret, oauth2.AuthStyleInHeader, one).TokenSource(ctx)
	first, err := source.Token()
	check("x/oauth2 has a token to keep", err == nil, err)
	second, err := source.Token()
	check("x/oauth2 keeps a token that is good", err == nil && second.AccessToken == first.AccessToken, err)
	expired := *first
	expired.Expiry = time.Now().Add(-time.Second)
	fresh := client(secret, oauth2.AuthStyleInHeader, one).TokenSource(ctx)
	third, err := oauth2.ReuseTokenSource(&expired, fresh).Token()
	check("x/oauth2 renews an expired token", err == nil && third.AccessToken != first.AccessToken, err)
}

func fetchFor(ctx context.Context, id, secret, url string) string {
	config := clientcredentials.Config{
		ClientID: id, ClientSecret: secret, TokenURL: url,
		AuthStyle: oauth2.AuthStyleInHeader, Scopes: []string{setting("ONE_SCOPE")},
	}
	token, err := config.Token(ctx)
	if err != nil {
		fmt.Printf("no token to verify: %s\n", code(nil, err))
		os.Exit(1)
	}
	return token.AccessToken
}

func tamperedPayload(token string) string {
	part := strings.Split(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(part[1])
	var claims map[string]any
	_ = json.Unmarshal(text, &claims)
	claims["scope"] = "*:*"
	text, _ = json.Marshal(claims)
	return part[0] + "." + base64.RawURLEncoding.EncodeToString(text) + "." + part[2]
}

func tamperedSignature(token string) string {
	part := strings.Split(token, ".")
	flip := "A"
	if part[2][0] == 'A' {
		flip = "B"
	}
	return part[0] + "." + part[1] + "." + flip + part[2][1:]
}

func checkOIDC(ctx context.Context) {
	provider, err := oidc.NewProvider(ctx, setting("ISSUER"))
	check("go-oidc discovers the server", err == nil, err)
	verifier := provider.Verifier(&oidc.Config{ClientID: setting("AUDIENCE")})
	url := setting("TOKEN_URL")
	token := fetchFor(ctx, setting("CLIENT_ID"), setting("CLIENT_SECRET"), url)

	var claims struct {
		Scope    string `json:"scope"`
		Org      string `json:"org"`
		ClientID string `json:"client_id"`
	}
	verified, err := verifier.Verify(ctx, token)
	if err == nil {
		err = verified.Claims(&claims)
	}
	read := []string{claims.Scope, claims.Org, claims.ClientID}
	want := []string{setting("ONE_SCOPE"), setting("ORG"), setting("CLIENT_ID")}
	check("go-oidc accepts a token and reads scope, org and client_id",
		err == nil && slices.Equal(read, want), fmt.Sprint(read, err))

	refuses := func(what, reason string, verifier *oidc.IDTokenVerifier, token string) {
		_, err := verifier.Verify(ctx, token)
		check("go-oidc refuses "+what, err != nil && strings.Contains(err.Error(), reason), err)
	}
	refuses("a tampered payload", "failed to verify signature", verifier, tamperedPayload(token))
	refuses("a tampered signature", "failed to verify signature", verifier, tamperedSignature(token))
	later := provider.Verifier(&oidc.Config{
		ClientID: setting("AUDIENCE"),
		Now:      func() time.Time { return time.Now().Add(601 * time.Second) },
	})
	refuses("an expired token", "token is expired", later, token)
	other := fetchFor(ctx, setting("OTHER_CLIENT_ID"), setting("OTHER_CLIENT_SECRET"), url)
	refuses("a token for another audience", "expected audience", verifier, other)
	foreign := fetchFor(ctx, setting("SHORT_CLIENT_ID"), setting("SHORT_CLIENT_SECRET"), setting("SHORT_TOKEN_URL"))
	refuses("a token of another server", "failed to verify signature", verifier, foreign)

	provider, err = oidc.NewProvider(ctx, setting("RSA_ISSUER"))
	if err == nil {
		signed := fetchFor(ctx, setting("RSA_CLIENT_ID"), setting("RSA_CLIENT_SECRET"), provider.Endpoint().TokenURL)
		_, err = provider.Verifier(&oidc.Config{ClientID: setting("AUDIENCE")}).Verify(ctx, signed)
	}
	check("go-oidc accepts an RS256 token", err == nil, err)
}

func main() {
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: 20 * time.Second})
	checkClientCredentials(ctx)
	checkOIDC(ctx)
}
