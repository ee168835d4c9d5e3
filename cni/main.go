// Command manx is the CNI plugin that runtimes execute: a thin messenger to the node agent.
//
// It owns the CNI protocol towards the runtime: environment, standard input, versions, conversion of results, exit status
// (CNI specification 1.1.0, through containernetworking/cni's skel). It must not touch the kernel, keep state or decide
// anything: the agent, which has the policy and the addresses, does all of that, and can be replaced without this file
// on the host changing.
//
// Build: CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=v0.1.0" -o manx .
// The module also pins the portmap plugin that is chained for host ports:
// CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o portmap github.com/containernetworking/plugins/plugins/meta/portmap
package main

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// release is set at link time.
var release = "unreleased"

// errNotAvailable: "the plugin is not available", STATUS's code 50 (CNI specification 1.1.0, section STATUS).
const errNotAvailable = 50

func main() {
	skel.PluginMainFuncs(functions(), version.VersionsStartingFrom("0.3.1"), "CNI plugin manx "+release)
}

func functions() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:    add,
		Del:    func(args *skel.CmdArgs) error { return withoutResult("DEL", args) },
		Check:  func(args *skel.CmdArgs) error { return withoutResult("CHECK", args) },
		GC:     func(args *skel.CmdArgs) error { return withoutResult("GC", args) },
		Status: status,
	}
}

// add prints the agent's result at the version that the configuration asks for.
func add(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	answer, err := forward("ADD", args, config)
	if err != nil {
		return err
	}
	result, err := types100.NewResult(answer)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "the Manx agent's result is not a CNI result", err.Error())
	}
	return types.PrintResult(result, config.CNIVersion)
}

// status fails at once, with the code that the specification has for it, where the agent is not there.
func status(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	config.patience = 0
	_, err = forward("STATUS", args, config)
	if failure, ok := err.(*types.Error); ok && failure.Code == types.ErrTryAgainLater {
		failure.Code = errNotAvailable
	}
	return err
}

func withoutResult(command string, args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	_, err = forward(command, args, config)
	return err
}

// netConf is what this executable reads of the network configuration; the agent gets all of it.
type netConf struct {
	types.PluginConf
	// Socket is the agent's, an absolute path.
	Socket string `json:"socket"`
	// Timeout in seconds, for the whole request.
	Timeout float64 `json:"timeout"`

	patience float64
}

const (
	defaultSocket = "/run/manx/cni.sock"
	// defaultTimeout is longer than the operator takes to fail over, for which a new pod waits.
	defaultTimeout = 90
	// defaultPatience is how many seconds an agent may be away, to be restarted or replaced, before a request fails.
	defaultPatience = 15
)

func parseConfig(stdin []byte) (*netConf, error) {
	config := &netConf{Socket: defaultSocket, Timeout: defaultTimeout, patience: defaultPatience}
	if err := json.Unmarshal(stdin, config); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "cannot parse the network configuration", err.Error())
	}
	if config.Timeout < 1 || config.Timeout > 600 {
		text := fmt.Sprintf("timeout: %v is not between 1 and 600 seconds", config.Timeout)
		return nil, types.NewError(types.ErrInvalidNetworkConfig, text, "")
	}
	if config.Socket == "" || config.Socket[0] != '/' {
		text := fmt.Sprintf("socket: %q is not an absolute path", config.Socket)
		return nil, types.NewError(types.ErrInvalidNetworkConfig, text, "")
	}
	return config, nil
}
