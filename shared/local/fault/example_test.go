package fault_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"managed-credentials/shared/local/fault"
)

// The first create is lost on the way back and arrives once more later, as on a network that
// duplicates; the second one passes.
func Example() {
	pods := 0
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { pods++ }))
	defer target.Close()

	proxy := fault.New(target.URL)
	server := httptest.NewServer(proxy)
	defer server.Close()

	proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "POST /v0/pods" && c.Nth == 1 {
			return fault.Later(fault.UntilReleased, fault.LoseAnswer())
		}
		return nil
	})

	_, err := http.Post(server.URL+"/v0/pods", "application/json", strings.NewReader("{}"))
	fmt.Println("first create failed:", err != nil)
	resp, err := http.Post(server.URL+"/v0/pods", "application/json", strings.NewReader("{}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()
	fmt.Println("calls:", proxy.Count("POST /v0/pods"), "pods:", pods)

	err = proxy.Deliver()
	fmt.Println("pods in the end:", pods, err)
	// Output:
	// first create failed: true
	// calls: 2 pods: 2
	// pods in the end: 3 <nil>
}
