package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

//go:embed all:page
var pages embed.FS

// settings say how users of this deployment sign in, and whose page they see. They are public.
type settings struct {
	// ManagedLoginURL is the origin of Cognito's login pages. Empty means that there are none.
	ManagedLoginURL string `json:"managed_login_url"`
	// ManagedLoginIssuer is the `iss` of its ID tokens; "" if there is no user pool.
	ManagedLoginIssuer string `json:"managed_login_issuer"`
	// ClientID is the app client that signs in there.
	ClientID string `json:"client_id"`
	// SignInAs is where the page gets a token for any name. It exists on one machine alone; empty
	// means that it does not.
	SignInAs string `json:"sign_in_as"`
	// BrandName is what the platform is called, BrandLogoURL a picture in place of that,
	// BrandAccent its colour and SupportURL where users find help. Each may be empty.
	BrandName    string `json:"brand_name"`
	BrandLogoURL string `json:"brand_logo_url"`
	BrandAccent  string `json:"brand_accent"`
	SupportURL   string `json:"support_url"`
}

// file is one file of the page, as it is sent.
type file struct {
	contentType, etag, body string
	// lasting: the name is the content's, so that a browser may keep the file for ever.
	lasting bool
	// gzipped is the body compressed, in base64; empty if there is no such form. API Gateway
	// compresses nothing by itself.
	gzipped string
}

// contentTypes are those of the page's files. They are written out because what package mime knows
// depends on the machine.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// handler answers with the page's files and its configuration: a function of the route and of what
// the client can read or has. It goes by the route, not by the path: before the path may stand a
// stage's name, or what a custom domain maps to the API.
type handler func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// newHandler reads the page's files once. index.html is served at /, with the settings in it, the
// others under /page-files/, and the settings alone at /config.
func newHandler(source fs.FS, s settings) (handler, error) {
	headers, err := headersFor(s)
	if err != nil {
		return nil, err
	}
	config, _ := json.Marshal(s) // texts always marshal, without a character that would end a script
	files, err := readFiles(source, config)
	if err != nil {
		return nil, fmt.Errorf("reading the page's files: %w", err)
	}
	files["/config"] = newFile("application/json", config, nil)

	return func(_ context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		response := events.APIGatewayV2HTTPResponse{Headers: maps.Clone(headers)}
		method, route, _ := strings.Cut(e.RouteKey, " ")
		f, ok := files[strings.Replace(route, "{file}", e.PathParameters["file"], 1)]
		switch {
		case route == "/" && !strings.HasSuffix(e.RawPath, "/"):
			// What the page names is relative to it: without the slash it would be looked for
			// beside the stage.
			response.StatusCode = http.StatusTemporaryRedirect
			response.Headers["location"] = (&url.URL{Path: path.Base(e.RawPath) + "/", RawQuery: e.RawQueryString}).String()
			return response, nil
		case !ok && route == "/":
			response.StatusCode, f = http.StatusServiceUnavailable, file{contentType: "text/plain", body: "The page has not been built: run make build.\n"}
		case !ok:
			response.StatusCode, f = http.StatusNotFound, file{contentType: "application/json", body: `{"message":"Not Found"}`}
		case e.Headers["if-none-match"] == f.etag:
			response.StatusCode = http.StatusNotModified
			response.Headers["etag"] = f.etag
			return response, nil
		default:
			response.StatusCode = http.StatusOK
			response.Headers["etag"] = f.etag
		}
		response.Headers["content-type"] = f.contentType
		if f.lasting {
			response.Headers["cache-control"] = "public, max-age=31536000, immutable"
		}
		response.Body = f.body
		if f.gzipped != "" && acceptsGzip(e.Headers["accept-encoding"]) {
			response.Body, response.IsBase64Encoded = f.gzipped, true
			response.Headers["content-encoding"] = "gzip"
		}
		if method == http.MethodHead {
			response.Body, response.IsBase64Encoded = "", false
		}
		return response, nil
	}, nil
}

// acceptsGzip reads an Accept-Encoding header (RFC 9110, section 12.5.3). A weight of 0 means that
// the client does not read it.
func acceptsGzip(header string) bool {
	accepted := map[string]bool{}
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, weighted := strings.Cut(coding, ";")
		_, q, _ := strings.Cut(weight, "=")
		value, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		accepted[strings.ToLower(strings.TrimSpace(name))] = !weighted || err == nil && value > 0
	}
	named, ok := accepted["gzip"]
	if !ok {
		return accepted["*"]
	}
	return named
}

// named is the name of a file whose name is its content's: the build puts a hash into it.
var named = regexp.MustCompile(`-[A-Z0-9]{8}\.[a-z]+$`)

// noSettings is where the built page has the place of its settings.
var noSettings = []byte(`<script id="config" type="application/json">{}</script>`)

// readFiles returns the files by the paths that they are served at. A name that ends in .gz is
// another form of a file, not a file. The page itself gets its settings.
func readFiles(source fs.FS, config []byte) (map[string]file, error) {
	files := map[string]file{}
	names, err := fs.Glob(source, "page/[^.]*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			continue
		}
		body, err := fs.ReadFile(source, name)
		if err != nil {
			return nil, err
		}
		gzipped, err := fs.ReadFile(source, name+".gz")
		if err != nil {
			return nil, err
		}
		at := "/page-files/" + path.Base(name)
		if name == "page/index.html" {
			at = "/"
			body = bytes.Replace(body, noSettings, bytes.Replace(noSettings, []byte("{}"), config, 1), 1)
			gzipped = compress(body)
		}
		f := newFile(contentType, body, gzipped)
		f.lasting = named.MatchString(name)
		files[at] = f
	}
	return files, nil
}

// compress returns a body in the form of gzip.
func compress(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // memory takes all
	_ = w.Close()
	return b.Bytes()
}

func newFile(contentType string, body, gzipped []byte) file {
	sum := sha256.Sum256(body)
	return file{
		contentType: contentType,
		// Weak: the compressed form has the same one.
		etag:    `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		body:    string(body),
		gzipped: base64.StdEncoding.EncodeToString(gzipped),
	}
}

// headersFor are the headers of every answer. The policy lets the page run its own script, look as
// its own style says, show the platform's logo, and talk to its own origin and, where there is
// managed login, to that; nothing else of it may come from anywhere else, be framed, or be
// evaluated.
func headersFor(s settings) (map[string]string, error) {
	connect := "'self'"
	if s.ManagedLoginURL != "" {
		login, err := url.Parse(s.ManagedLoginURL)
		if err != nil || login.Host == "" || login.Scheme+"://"+login.Host != s.ManagedLoginURL || strings.ContainsAny(login.Host, ";, '\"*") {
			return nil, fmt.Errorf("MANAGED_LOGIN_URL has to be an origin such as https://example.auth.us-east-1.amazoncognito.com")
		}
		connect += " " + s.ManagedLoginURL
	}
	images := strings.TrimSpace("'self' " + s.BrandLogoURL)
	return map[string]string{
		"content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src " + images + "; connect-src " + connect +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		"x-content-type-options":       "nosniff",
		"x-frame-options":              "DENY",
		"referrer-policy":              "no-referrer",
		"strict-transport-security":    "max-age=31536000",
		"cross-origin-opener-policy":   "same-origin-allow-popups", // the sign-in window is another origin's
		"cross-origin-resource-policy": "same-origin",
		"permissions-policy":           "camera=(), geolocation=(), microphone=()",
		// Kept, and asked about each time, unless the name says which version it is: a new one is
		// seen at once, and an old one costs an answer without a body.
		"cache-control": "no-cache",
		"vary":          "accept-encoding",
	}, nil
}
