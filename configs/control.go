package configs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"topicast/configs/syntax"
)

const (
	controlAuto  = "auto"
	controlName  = "control.sock"
	controlThere = "such as unix:/run/topicast/control.sock; auto; \"\" for off"

	// maxSocketPath is how long the path of a unix socket may be (unix(7), sun_path, on macOS and
	// the BSDs; Linux takes three more).
	maxSocketPath = 103
)

// checkControl looks at control.listen.
func checkControl(written string) error {
	if written == "" || written == controlAuto {
		return nil
	}
	path, ok := strings.CutPrefix(written, "unix:")
	switch {
	case !ok && filepath.IsAbs(written):
		return withHint("write unix:"+written, fmt.Errorf("%q has no unix: in front", written))
	case !ok:
		return withHint(controlThere, fmt.Errorf("%q is not unix: and a path; who reaches this socket controls the bridge, so that it is never TCP, which has no login", written))
	case !filepath.IsAbs(path):
		return withHint(controlThere, fmt.Errorf("%q is not a path from the root, and those who look for the socket run elsewhere", path))
	case len(path) > maxSocketPath:
		return withHint("choose a shorter one", fmt.Errorf("a path of %d bytes, and the system takes %d for a socket", len(path), maxSocketPath))
	}
	return nil
}

// Path is where the socket is to be; "": nowhere.
func (c Control) Path() string {
	if c.Listen != controlAuto {
		return strings.TrimPrefix(c.Listen, "unix:")
	}
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" { // systemd.exec(5)
		return filepath.Join(dir, controlName)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "topicast", controlName)
	}
	return ""
}

// Auto reports whether nobody has said where the socket is to be.
func (c Control) Auto() bool { return c.Listen == controlAuto }

// ErrNoControl is that the configuration says that there is no socket.
var ErrNoControl = errors.New(`control.listen is ""`)

// ControlPlaces are where the socket of a running bridge may be, the likeliest first: where a
// variable or the configuration says, else where auto may have put it. Of a file with a fault control.listen
// alone is read, if that can be: the bridge goes on with what it has. Where it cannot, fault is why, of a file that is
// not named; where that cannot be read it is passed over: it is the bridge's, and may be for it alone.
func ControlPlaces(file string) (places []string, fault, err error) {
	c := Control{Listen: controlAuto}
	if written, ok := os.LookupEnv("TOPICAST_CONTROL_LISTEN"); ok && checkControl(written) == nil {
		c.Listen = written
	} else if cfg, err := Load(file, nil); err == nil {
		c = cfg.Control
	} else if listen, found, known := controlOf(file); known {
		c.Listen = listen
	} else if file != "" {
		return nil, nil, err
	} else if found {
		fault = err
	}
	if !c.Auto() {
		if c.Listen == "" {
			return nil, nil, ErrNoControl
		}
		return []string{c.Path()}, nil, nil
	}
	if path := c.Path(); path != "" {
		places = append(places, path)
	}
	if path := "/run/topicast/" + controlName; len(places) == 0 || places[0] != path {
		places = append(places, path)
	}
	return places, fault, nil
}

// controlOf reads control.listen of a file that as a whole cannot be loaded; found is that it can be read at all,
// and known that it is known what it says.
func controlOf(file string) (listen string, found, known bool) {
	file, data, err := read(file, searchPath)
	if err != nil {
		return "", false, false
	}
	root, broken := parse(file, data)
	if broken != nil {
		root, broken = parse(file, rowsOf("control", data))
		if broken != nil || root.Entry("control") == nil {
			return "", true, false // the section may be there, beyond what is understood
		}
	}
	if root.Kind != syntax.Table {
		return "", true, false
	}
	section := root.Entry("control")
	if section == nil {
		return controlAuto, true, true
	}
	written := section.Value.Entry("listen")
	switch {
	case section.Value.Kind != syntax.Table:
		return "", true, false
	case written == nil:
		return controlAuto, true, true
	case written.Value.Kind != syntax.Text || checkControl(written.Value.Text) != nil:
		return "", true, false
	}
	return written.Value.Text, true, true
}

// rowsOf are the rows of a section of YAML or TOML, told by where they begin, without what stands around it.
func rowsOf(name string, data []byte) []byte {
	var rows []byte
	in := false
	for row := range bytes.Lines(data) {
		switch {
		case bytes.HasPrefix(row, []byte(name+":")), bytes.HasPrefix(row, []byte("["+name+"]")):
			in = true
		case in && !bytes.ContainsAny(row[:1], " \t\r\n#") && (rows[0] != '[' || row[0] == '['):
			return rows
		}
		if in {
			rows = append(rows, row...)
		}
	}
	return rows
}
