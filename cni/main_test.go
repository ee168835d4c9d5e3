package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
)

// The tests run the built executable, as a runtime does, against a socket that plays the agent.

var executable string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "manx-cni")
	if err != nil {
		panic(err)
	}
	executable = filepath.Join(directory, "manx")
	build := exec.Command("go", "build", "-o", executable, ".")
	if output, err := build.CombinedOutput(); err != nil {
		panic(string(output))
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

const result = `{"result":{"cniVersion":"1.1.0","interfaces":[{"name":"mnx0123456789a","mac":"ee:ee:ee:ee:ee:ee"},` +
	`{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/pod","mtu":1450}],` +
	`"ips":[{"address":"10.244.0.5/32","interface":1,"gateway":"169.254.1.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}}`

// agent answers each connection with the next of its answers; "" closes the connection without one.
type agent struct {
	listener *net.UnixListener
	answers  []string
	mutex    sync.Mutex
	heard    []request
	files    []string
}

func startAgent(t *testing.T, answers ...string) (*agent, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cni.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	played := &agent{listener: listener, answers: answers}
	go played.serve(t)
	return played, path
}

func (a *agent) serve(t *testing.T) {
	for {
		connection, err := a.listener.AcceptUnix()
		if err != nil {
			return
		}
		a.handle(t, connection)
	}
}

func (a *agent) handle(t *testing.T, connection *net.UnixConn) {
	defer connection.Close()
	first, rights := make([]byte, 1), make([]byte, 64)
	_, length, _, _, err := connection.ReadMsgUnix(first, rights)
	if err != nil {
		t.Error(err)
		return
	}
	line, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		t.Error(err)
		return
	}
	var got request
	if err := json.Unmarshal(append(first, line...), &got); err != nil {
		t.Error(err)
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.heard = append(a.heard, got)
	a.files = append(a.files, nameOf(t, rights[:length]))
	next := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	if next != "" {
		fmt.Fprintln(connection, next)
	}
}

func nameOf(t *testing.T, rights []byte) string {
	if len(rights) == 0 {
		return ""
	}
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		t.Error(err)
		return ""
	}
	descriptors, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		t.Error(err)
		return ""
	}
	defer syscall.Close(descriptors[0])
	target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", descriptors[0]))
	return target
}

func (a *agent) requests() []request {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return slices.Clone(a.heard)
}

func configuration(version string, extra string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"manx","type":"manx"%s}`, version, extra)
}

// run executes the plugin and returns its standard output, decoded, and whether it succeeded.
func run(t *testing.T, command, netns, stdin string) (map[string]any, bool) {
	t.Helper()
	process := exec.Command(executable)
	process.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=c1", "CNI_NETNS=" + netns, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web", "CNI_NETNS_OVERRIDE=1",
	}
	process.Stdin = strings.NewReader(stdin)
	var stdout bytes.Buffer
	process.Stdout = &stdout
	err := process.Run()
	decoded := map[string]any{}
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &decoded); err != nil {
			t.Fatalf("not JSON: %q", stdout.String())
		}
	}
	return decoded, err == nil
}

func TestVersionListsWhatIsSupported(t *testing.T) {
	got, ok := run(t, "VERSION", "", "")
	wanted := []any{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}
	if !ok || !slices.Equal(got["supportedVersions"].([]any), wanted) {
		t.Fatalf("got %v", got)
	}
}

func TestAddConvertsTheResult(t *testing.T) {
	for version, address := range map[string]string{
		"0.3.1": `"version":"4"`, "0.4.0": `"version":"4"`, "1.0.0": `"address":"10.244.0.5/32"`, "1.1.0": `"mtu":1450`,
	} {
		t.Run(version, func(t *testing.T) {
			_, path := startAgent(t, result)
			got, ok := run(t, "ADD", "/none", configuration(version, `,"socket":"`+path+`"`))
			text, _ := json.Marshal(got)
			if !ok || got["cniVersion"] != version || !strings.Contains(string(text), address) {
				t.Fatalf("got %s", text)
			}
		})
	}
}

func TestTheWholeRequestArrivesWithTheNamespace(t *testing.T) {
	played, path := startAgent(t, result)
	namespace := filepath.Join(t.TempDir(), "pod")
	if err := os.WriteFile(namespace, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := run(t, "ADD", namespace, configuration("1.0.0", `,"socket":"`+path+`","x":[1, 2]`)); !ok {
		t.Fatal("ADD failed")
	}
	got := played.requests()[0]
	config := map[string]any{}
	if err := json.Unmarshal(got.Config, &config); err != nil {
		t.Fatal(err)
	}
	if got.Command != "ADD" || got.ContainerID != "c1" || got.IfName != "eth0" || got.Netns != namespace ||
		got.Args != "IgnoreUnknown=1;K8S_POD_NAME=web" || len(config["x"].([]any)) != 2 {
		t.Fatalf("got %+v", got)
	}
	if played.files[0] != namespace {
		t.Fatalf("descriptor of %q", played.files[0])
	}
}

func TestCommandsWithoutResult(t *testing.T) {
	for _, command := range []string{"DEL", "CHECK", "GC", "STATUS"} {
		t.Run(command, func(t *testing.T) {
			played, path := startAgent(t, `{"result":{}}`)
			if got, ok := run(t, command, "/none", configuration("1.1.0", `,"socket":"`+path+`"`)); !ok || len(got) != 0 {
				t.Fatalf("got %v", got)
			}
			if heard := played.requests()[0].Command; heard != command {
				t.Fatalf("heard %s", heard)
			}
		})
	}
}

func TestTheAgentsErrorIsHandedOn(t *testing.T) {
	_, path := startAgent(t, `{"error":{"code":11,"msg":"pool p is full","details":"64 of 64"}}`)
	got, ok := run(t, "ADD", "/none", configuration("1.0.0", `,"socket":"`+path+`"`))
	if ok || got["code"] != 11.0 || got["msg"] != "pool p is full" || got["details"] != "64 of 64" {
		t.Fatalf("got %v", got)
	}
}

func TestAnAgentThatDiesOverARequestIsAskedAgain(t *testing.T) {
	played, path := startAgent(t, "", "", result)
	if got, ok := run(t, "ADD", "/none", configuration("1.0.0", `,"socket":"`+path+`"`)); !ok {
		t.Fatalf("got %v", got)
	}
	if count := len(played.requests()); count != 3 {
		t.Fatalf("%d requests", count)
	}
}

func TestAnAgentThatComesBackIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cni.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // as kill -9 leaves it: a socket file that refuses connections
	time.AfterFunc(500*time.Millisecond, func() {
		os.Remove(path)
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { listener.Close() })
		(&agent{listener: listener, answers: []string{result}}).serve(t)
	})
	if got, ok := run(t, "ADD", "/none", configuration("1.0.0", `,"socket":"`+path+`"`)); !ok {
		t.Fatalf("got %v", got)
	}
}

func TestFailures(t *testing.T) {
	_, nonsense := startAgent(t, "nonsense")
	_, noResult := startAgent(t, `{"result":{"cniVersion":"9.9.9"}}`)
	missing := filepath.Join(t.TempDir(), "none.sock")
	for name, test := range map[string]struct {
		command, config string
		code            float64
	}{
		"an answer that is no JSON":      {"ADD", configuration("1.0.0", `,"socket":"`+nonsense+`"`), 6},
		"a result that is no CNI result": {"ADD", configuration("1.0.0", `,"socket":"`+noResult+`"`), 6},
		"no agent to say its status":     {"STATUS", configuration("1.1.0", `,"socket":"`+missing+`"`), errNotAvailable},
		"a version not supported":        {"ADD", configuration("9.0.0", ""), 1},
		"a timeout of nothing":           {"ADD", configuration("1.0.0", `,"timeout":0`), 7},
		"a timeout of text":              {"ADD", configuration("1.0.0", `,"timeout":"long"`), 6},
		"a relative socket":              {"ADD", configuration("1.0.0", `,"socket":"cni.sock"`), 7},
		"a socket below a file":          {"ADD", configuration("1.0.0", `,"socket":"`+executable+`/cni.sock"`), 5},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := run(t, test.command, "/none", test.config)
			if ok || got["code"] != test.code {
				t.Fatalf("got %v", got)
			}
		})
	}
}

func TestNoAgentIsTryAgainLater(t *testing.T) {
	config := &netConf{Socket: filepath.Join(t.TempDir(), "none.sock"), Timeout: 1, patience: 0.3}
	for _, command := range []string{"ADD", "DEL"} {
		_, err := forward(command, emptyArgs(), config)
		if err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

func emptyArgs() *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", StdinData: []byte("{}")}
}
