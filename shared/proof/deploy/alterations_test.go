package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// object is a JSON object.
type object = map[string]any

// alteration is a change of the template that the emulator needs and AWS does not.
type alteration struct {
	name string
	// reason is what the emulator does otherwise than AWS.
	reason string
	// alter changes the template's resources, and returns how many it has found to change.
	alter func(resources object) int
	// needed tells, of a stack that was made without this alteration and with all others, whether
	// it is needed: that stack's status, and what has become of its API.
	needed func(without *stack) bool
}

// alterations are all that the emulator is given otherwise than AWS.
var alterations = []alteration{
	{
		name:   "the role's policy that stands by itself is of the older type",
		reason: "it does not know AWS::IAM::RolePolicy, and refuses the whole template",
		alter: func(resources object) int {
			return each(resources, "AWS::IAM::RolePolicy", func(_ string, r object) bool {
				p := properties(r)
				r["Type"], p["Roles"] = "AWS::IAM::Policy", []any{p["RoleName"]}
				delete(p, "RoleName")
				return true
			})
		},
		needed: failed,
	},
	{
		name:   "the login pages have no style",
		reason: "it does not know AWS::Cognito::ManagedLoginBranding, and refuses the whole template",
		alter: func(resources object) int {
			return each(resources, "AWS::Cognito::ManagedLoginBranding", func(id string, _ object) bool {
				delete(resources, id)
				return true
			})
		},
		needed: failed,
	},
	{
		name:   "alarms that calculate are left out",
		reason: "its alarms have no metric math",
		alter: func(resources object) int {
			return each(resources, "AWS::CloudWatch::Alarm", func(id string, r object) bool {
				_, calculates := properties(r)["Metrics"]
				if calculates {
					delete(resources, id)
				}
				return calculates
			})
		},
		needed: failed,
	},
	{
		name:   "the API's routes, integrations and authorizers are resources, made of its Body",
		reason: "it passes over the Body of an API, which then answers every request with 404",
		alter: func(resources object) int {
			return each(resources, "AWS::ApiGatewayV2::Api", func(id string, r object) bool {
				return writeOut(resources, id, r) > 0
			})
		},
		needed: func(without *stack) bool {
			return without.status() == complete && without.page() == http.StatusNotFound
		},
	},
	{
		name: "the rule takes the events of the user pool from " + testSource + ", too",
		reason: "it has no CloudTrail that tells EventBridge of anything, and, as on AWS, nobody " +
			"but AWS sends events whose source begins with aws.",
		alter: func(resources object) int {
			return each(resources, "AWS::Events::Rule", func(_ string, r object) bool {
				pattern, ok := properties(r)["EventPattern"].(object)
				if !ok {
					return false
				}
				pattern["source"] = append(pattern["source"].([]any), testSource)
				return true
			})
		},
		needed: func(without *stack) bool { return without.status() == complete && !without.sends("aws.cognito-idp") },
	},
}

// testSource is what this test's events come from.
const testSource = "test.cognito-idp"

// none is the index of no alteration.
const none = -1

func failed(s *stack) bool { return s.status() != complete }

// alter returns the template with all alterations but one, or with all of them. It fails if one
// matches nothing.
func alter(t *testing.T, transformed []byte, but int) object {
	t.Helper()
	var altered object
	err := json.Unmarshal(transformed, &altered)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range alterations {
		if i == but {
			continue
		}
		n := a.alter(altered["Resources"].(object))
		if n == 0 {
			t.Errorf("there is nothing in the template for this alteration: %s", a.name)
		}
		if but == none {
			t.Logf("altered for the emulator, in %d places: %s, because %s", n, a.name, a.reason)
		}
	}
	return altered
}

// each hands every resource of a type to do, and counts those that do has changed.
func each(resources object, typ string, do func(id string, r object) bool) int {
	n := 0
	for _, id := range slices.Sorted(maps.Keys(resources)) {
		r := resources[id].(object)
		if r["Type"] == typ && do(id, r) {
			n++
		}
	}
	return n
}

func properties(resource object) object { return resource["Properties"].(object) }

// writeOut makes resources of an API's Body, which is OpenAPI with API Gateway's extensions, and
// returns how many routes there are.
func writeOut(resources object, api string, r object) int {
	body := properties(r)["Body"].(object)
	r["Properties"] = object{
		"Name": body["info"].(object)["title"], "ProtocolType": "HTTP",
		"CorsConfiguration": capitalized(body["x-amazon-apigateway-cors"]),
	}
	ref := object{"Ref": api}
	authorizers, kinds := object{}, object{}
	for name, scheme := range body["components"].(object)["securitySchemes"].(object) {
		a := scheme.(object)["x-amazon-apigateway-authorizer"].(object)
		p := capitalized(a).(object)
		delete(p, "Type")
		p["ApiId"], p["Name"], p["AuthorizerType"] = ref, name, strings.ToUpper(a["type"].(string))
		source, one := a["identitySource"].(string)
		if one {
			p["IdentitySource"] = []any{source}
		}
		id := api + "Authorizer" + name
		resources[id] = object{"Type": "AWS::ApiGatewayV2::Authorizer", "Properties": p}
		authorizers[name] = object{"Ref": id}
		kinds[name] = map[string]string{"jwt": "JWT", "request": "CUSTOM"}[a["type"].(string)]
	}
	authorizers["NONE"], kinds["NONE"] = object{"Ref": "AWS::NoValue"}, "NONE"
	n := 0
	paths := body["paths"].(object)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		operations := paths[path].(object)
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			n++
			o := operations[method].(object)
			i := o["x-amazon-apigateway-integration"].(object)
			integration := fmt.Sprintf("%sIntegration%s%d", api, method, n)
			resources[integration] = object{"Type": "AWS::ApiGatewayV2::Integration", "Properties": object{
				"ApiId": ref, "IntegrationType": "AWS_PROXY", "IntegrationMethod": i["httpMethod"],
				"IntegrationUri": i["uri"], "PayloadFormatVersion": i["payloadFormatVersion"],
			}}
			resources[fmt.Sprintf("%sRoute%s%d", api, method, n)] = object{"Type": "AWS::ApiGatewayV2::Route", "Properties": object{
				"ApiId": ref, "RouteKey": strings.ToUpper(method) + " " + path,
				"Target":            object{"Fn::Join": []any{"/", []any{"integrations", object{"Ref": integration}}}},
				"AuthorizationType": chosen(o["security"], kinds), "AuthorizerId": chosen(o["security"], authorizers),
			}}
		}
	}
	return n
}

// chosen is what stands for a route's security, which names one authorizer, or two with a condition
// between them.
func chosen(security any, of object) any {
	either, ok := security.(object)
	if ok {
		choice := either["Fn::If"].([]any)
		return object{"Fn::If": []any{choice[0], chosen(choice[1], of), chosen(choice[2], of)}}
	}
	for name := range security.([]any)[0].(object) {
		return of[name]
	}
	return nil
}

// capitalized writes an extension's members the way CloudFormation does; functions of
// CloudFormation stay as they are.
func capitalized(v any) any {
	switch v := v.(type) {
	case object:
		written := object{}
		for name, member := range v {
			switch {
			case name == "Fn::If":
				choice := member.([]any)
				written[name] = []any{choice[0], capitalized(choice[1]), capitalized(choice[2])}
			case name == "Ref", strings.HasPrefix(name, "Fn::"):
				return v
			default:
				written[strings.ToUpper(name[:1])+name[1:]] = capitalized(member)
			}
		}
		return written
	default:
		return v
	}
}
