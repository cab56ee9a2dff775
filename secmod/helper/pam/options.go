package pam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Program is the helper's, in the folder of the server's.
const Program = "rocserv-pam"

// defaultService is ocserv's, so that its file in pam.d serves.
const defaultService = "ocserv"

// options are those of the configuration's line.
type options struct {
	service string
	gidMin  int // groups below it are not the user's
}

func readOptions(line map[string]string) (o options, err error) {
	o.service = defaultService
	if s := line["service"]; s != "" {
		o.service = s
	}
	if strings.ContainsAny(o.service, "/\x00") {
		return o, fmt.Errorf("service = %s: not the name of a file in /etc/pam.d", o.service)
	}
	if g := line["gid-min"]; g != "" {
		if o.gidMin, err = strconv.Atoi(g); err != nil || o.gidMin < 0 {
			return o, fmt.Errorf("gid-min = %s: no number of a group", g)
		}
	}
	return o, nil
}

// Check looks for the helper's program and the service's file. It implements
// helper.Check.
func Check(line map[string]string) (warnings []string, err error) {
	o, err := readOptions(line)
	if err != nil {
		return nil, err
	}
	if err := installed(); err != nil {
		return nil, err
	}
	return o.found(), nil
}

// installed says whether the helper's program is where main starts it from.
func installed() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(self), Program)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("needs the program %s, which is not there: the server itself has no libpam (make pam builds it)", path)
	} else if err != nil {
		return err
	}
	return nil
}

// found warns of a service that libpam does not find, for which it takes "other".
func (o options) found() []string {
	for _, dir := range []string{"/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"} {
		if _, err := os.Stat(filepath.Join(dir, o.service)); err == nil {
			return nil
		}
	}
	return []string{fmt.Sprintf("there is no /etc/pam.d/%s: libpam takes the service 'other', which refuses everybody as a rule", o.service)}
}
