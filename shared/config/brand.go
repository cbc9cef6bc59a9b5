package config

import (
	"fmt"
	"regexp"
)

// What the page shows of the platform that it belongs to. All of it ends up in HTML, in a policy or
// in a style, so that each has a form. A form is compiled when it is needed: the page alone reads
// these, and compiling them took each function's start a millisecond.
const (
	brandName  = `^[^\x00-\x1f\x7f]{0,64}$`
	brandLogo  = `^(https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/%-]*)?)?$`
	accent     = `^(#[0-9A-Fa-f]{6})?$`
	supportURL = `^(https://[!-~]{1,500}|mailto:[!-~]{1,250})?$`
)

// BrandName is what the page calls the platform; "" for nothing.
func (e *Env) BrandName() string {
	return e.formed("BRAND_NAME", e.lookup("BRAND_NAME"), brandName, "at most 64 characters of one line")
}

// BrandLogoURL is the address of the platform's logo; "" for none.
func (e *Env) BrandLogoURL() string {
	return e.formed("BRAND_LOGO_URL", e.lookup("BRAND_LOGO_URL"), brandLogo, "an address such as https://example.com/logo.svg, without a query")
}

// BrandAccent is the platform's colour; "" for the page's own.
func (e *Env) BrandAccent() string {
	return e.formed("BRAND_ACCENT", e.lookup("BRAND_ACCENT"), accent, "a colour such as #3450c4")
}

// SupportURL is where users find help; "" for nowhere.
func (e *Env) SupportURL() string {
	return e.formed("SUPPORT_URL", e.lookup("SUPPORT_URL"), supportURL, "an address that begins with https:// or mailto:")
}

// formed is a variable of a given form, a regular expression.
func (e *Env) formed(name, value, form, says string) string {
	if !regexp.MustCompile(form).MatchString(value) {
		e.errs = append(e.errs, fmt.Errorf("%s has to be %s, not %q", name, says, value))
	}
	return value
}
