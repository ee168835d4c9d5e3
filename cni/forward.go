package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// request is one line of JSON. With it, where the sandbox's network namespace can be opened, goes its file descriptor
// (SCM_RIGHTS): so the agent, in a container of its own, needs no view of where the runtime keeps namespaces, and a
// sandbox that vanishes meanwhile takes nothing away under the agent.
type request struct {
	Command     string          `json:"command"`
	ContainerID string          `json:"containerID"`
	Netns       string          `json:"netns"`
	IfName      string          `json:"ifName"`
	Args        string          `json:"args"`
	Path        string          `json:"path"`
	Config      json.RawMessage `json:"config"`
}

// answer is one line of JSON, with either of the two.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *types.Error    `json:"error"`
}

const (
	retryInterval = 200 * time.Millisecond
	// grace lets the agent's own timeout, whose message says what was waited for, come first.
	grace = 5 * time.Second
)

// errAway marks failures after which the same request may be sent again: there is no agent, or it died over the request.
// Every command is idempotent by container ID and interface, so it does not matter how far the dead one had come.
var errAway = errors.New("the Manx agent is away")

// forward sends the command to the agent and returns its result. The error is a *types.Error.
func forward(command string, args *skel.CmdArgs, config *netConf) (json.RawMessage, error) {
	line, err := encode(command, args)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "cannot encode the request", err.Error())
	}
	namespace := openNamespace(args.Netns)
	if namespace != nil {
		defer namespace.Close()
	}
	deadline := time.Now().Add(seconds(config.Timeout) + grace)
	for lost := time.Now(); ; time.Sleep(retryInterval) {
		reply, err := exchange(config.Socket, line, namespace, deadline, &lost)
		if err == nil {
			return unpack(reply)
		}
		if !errors.Is(err, errAway) {
			return nil, types.NewError(types.ErrIOFailure, "cannot talk to the Manx agent at "+config.Socket, err.Error())
		}
		if time.Since(lost) >= seconds(config.patience) || time.Now().After(deadline) {
			return nil, types.NewError(types.ErrTryAgainLater, "the Manx agent does not answer at "+config.Socket, err.Error())
		}
	}
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

func encode(command string, args *skel.CmdArgs) ([]byte, error) {
	line, err := json.Marshal(request{
		Command:     command,
		ContainerID: args.ContainerID,
		Netns:       args.Netns,
		IfName:      args.IfName,
		Args:        args.Args,
		Path:        args.Path,
		Config:      args.StdinData,
	})
	return append(line, '\n'), err
}

// openNamespace returns nil where there is none (any more); the agent judges whether the command needs one.
func openNamespace(path string) *os.File {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	return file
}

// exchange makes one attempt. `lost` becomes the moment at which a connection that had been made broke.
func exchange(socket string, line []byte, namespace *os.File, deadline time.Time, lost *time.Time) ([]byte, error) {
	connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, classify(err)
	}
	defer connection.Close()
	defer func() { *lost = time.Now() }()
	if err := connection.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := send(connection, line, namespace); err != nil {
		return nil, classify(err)
	}
	reply, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		return nil, classify(err)
	}
	return reply, nil
}

// send writes the line; the descriptor travels with its first byte.
func send(connection *net.UnixConn, line []byte, namespace *os.File) error {
	if namespace == nil {
		_, err := connection.Write(line)
		return err
	}
	written, _, err := connection.WriteMsgUnix(line[:1], syscall.UnixRights(int(namespace.Fd())), nil)
	if err == nil {
		_, err = connection.Write(line[written:])
	}
	return err
}

func classify(err error) error {
	for _, away := range []error{
		fs.ErrNotExist, io.EOF, os.ErrDeadlineExceeded,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EAGAIN,
	} {
		if errors.Is(err, away) {
			return fmt.Errorf("%w: %w", errAway, err)
		}
	}
	return err
}

func unpack(reply []byte) (json.RawMessage, error) {
	var got answer
	if err := json.Unmarshal(reply, &got); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "cannot parse the Manx agent's answer", err.Error())
	}
	if got.Error != nil {
		return nil, got.Error
	}
	return got.Result, nil
}
