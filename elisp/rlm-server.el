;;; rlm-server.el --- Find and start the rlm server  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Where the server comes from, in this order: the option
;; `rlm-server-command', the private environment that
;; `rlm-install-server' has made, the environment beside a checkout that
;; this file belongs to, and an executable on the PATH.  Nothing is ever
;; installed unless `rlm-install-server' is called.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm-server-log)

(define-error 'rlm-rpc-error "The rlm server can't be reached")

;;;; Customization

(defcustom rlm-server-address nil
  "Address of a server that runs already, as \"HOST:PORT\", or nil.
HOST has to be this machine.  With nil, Emacs starts a server of its own;
see `rlm-server-command'.  Start a server that outlives Emacs by
\"rlm-server --tcp 127.0.0.1:PORT\"."
  :group 'rlm
  :type '(choice (const :tag "Start a server" nil)
                 (string :tag "HOST:PORT" :valid-regexp "\\`[^ ]+:[0-9]+\\'"))
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-server-token-file nil
  "File that holds the secret which the server at `rlm-server-address' wants.
The server says its name when it starts."
  :group 'rlm
  :type '(choice (const :tag "None" nil) file)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-server-command nil
  "Command that starts the server on its standard input and output, or nil.
A list of strings, such as (\"/opt/rlm/bin/python\" \"-m\" \"rlm_server\").
With nil the server is looked for; `rlm-doctor' tells what was found."
  :group 'rlm
  :type '(choice (const :tag "Look for it" nil) (repeat string))
  :risky t
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-server-directory (locate-user-emacs-file "rlm/server/")
  "Directory in which `rlm-install-server' makes its private environment."
  :group 'rlm
  :type 'directory
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-remote-server nil
  "Whether files on other machines are asked about by a server there.
With nil they are copied here, and directories can't be asked about.  A list
of strings is the command that starts the server there; t means rlm-server
on the PATH of that machine, as TRAMP has it in `tramp-remote-path'.

One server is connected at a time.  Emacs goes on to that of another machine
when something there is asked about and no run is going on.  The keys of
your auth-source do not leave this machine: the server there needs its own."
  :group 'rlm
  :type '(choice (const :tag "Copy files here" nil)
                 (const :tag "rlm-server on the PATH there" t)
                 (repeat :tag "Command" string))
  :risky t
  :package-version '(rlm . "0.1.0"))

(defvar rlm-server-host nil
  "Where the server is started: nil, or what TRAMP's names of files begin with.")

(defun rlm-server-host-of (file)
  "Return the machine of the server for FILE: nil, or a beginning for TRAMP."
  (and rlm-remote-server (file-remote-p file)))

;;;; Finding

(defconst rlm-server--home
  (file-name-directory (or load-file-name buffer-file-name default-directory))
  "Directory of this file.")

(defun rlm-server-checkout ()
  "Return the directory of the checkout that this file belongs to, or nil."
  (let ((root (file-name-directory (directory-file-name rlm-server--home))))
    (and (file-exists-p (expand-file-name "rlm_server/protocol.py" root))
         root)))

(defvar tramp-ssh-controlmaster-options)
(defvar tramp-use-ssh-controlmaster-options)

(defun rlm-server-find ()
  "Return how the server is started: a list (COMMAND HOW DIRECTORY), or nil.
HOW says in a few words how it was found."
  (let ((checkout (rlm-server-checkout)))
    (cond (rlm-server-command
           (list rlm-server-command "option rlm-server-command" checkout))
          ((rlm-server--in-environment rlm-server-directory "installed by rlm-install-server"
                                       nil))
          ((and checkout
                (rlm-server--in-environment (expand-file-name ".venv" checkout)
                                            "beside the checkout" checkout)))
          ((executable-find "rlm-server")
           (list (list (executable-find "rlm-server")) "on the PATH" nil)))))

(defun rlm-server--in-environment (directory how checkout)
  "Return how the server in the environment DIRECTORY is started, or nil.
HOW and CHECKOUT are the rest of the list."
  (let ((python (expand-file-name "bin/python" directory)))
    (and (file-executable-p python)
         (list (list python "-m" "rlm_server") how checkout))))

;;;; Starting

(defconst rlm-server--starts-allowed 3
  "How many times a server is started within `rlm-server--starts-seconds'.")

(defconst rlm-server--starts-seconds 60
  "Seconds for which the start of a server is remembered.")

(defvar rlm-server--starts nil
  "Times at which a server was started, newest first.")

(defun rlm-server-start ()
  "Start the server, or reach the one of `rlm-server-address'; return its process.
Signal `rlm-rpc-error' if none is found, or it was tried too often of late."
  (rlm-server--check-starts)
  (prog1 (cond (rlm-server-address (rlm-server--open-tcp))
               (rlm-server-host (rlm-server--start-there rlm-server-host))
               (t (rlm-server--start-here)))
    ;; What could not even be started has not ended: why is told each time.
    (push (float-time) rlm-server--starts)))

(defun rlm-server--check-starts ()
  "Signal `rlm-rpc-error' if the server was started too often of late."
  (setq rlm-server--starts
        (seq-filter (lambda (time) (< (- (float-time) time) rlm-server--starts-seconds))
                    rlm-server--starts))
  (when (>= (length rlm-server--starts) rlm-server--starts-allowed)
    (rlm-server-show-log)
    (signal 'rlm-rpc-error
            (list (format "The server has ended %d times within a minute; %s"
                          (length rlm-server--starts)
                          "see its log, then M-x rlm-restart-server")))))

(defun rlm-server-forgive ()
  "Forget how often the server was started, so that it may be again."
  (setq rlm-server--starts nil))

(defconst rlm-server--prelude "stty raw -echo >/dev/null 2>&1; echo rlm-is-ready; exec "
  "What a shell does before it becomes the server.
TRAMP gives it a terminal, which must not change what goes through it.")

(defconst rlm-server--patience 30
  "Seconds to wait for the shell of another machine.")

(defun rlm-server--start-there (host)
  "Start the server on HOST, and return its process."
  (let* ((default-directory (concat host "/"))
         (command (if (listp rlm-remote-server) rlm-remote-server '("rlm-server")))
         (program (or (executable-find (car command) t)
                      (signal 'rlm-rpc-error
                              (list (format "There is no %s on %s: see `rlm-remote-server'"
                                            (car command) host)))))
         ;; A shared connection of ssh would get stuck under much traffic.
         (tramp-use-ssh-controlmaster-options 'suppress)
         (tramp-ssh-controlmaster-options "-o ControlMaster=no -o ControlPath=none"))
    (rlm-server-log (format "\n$ %s (on %s)\n" (combine-and-quote-strings command) host))
    (rlm-server--wait-there
     host
     (make-process :name "rlm" :connection-type 'pipe :noquery t :file-handler t
                   :coding 'utf-8-emacs-unix :stderr (get-buffer-create " *rlm remote log*")
                   :command (list "/bin/sh" "-c"
                                  (concat rlm-server--prelude
                                          (mapconcat #'shell-quote-argument
                                                     (cons (file-local-name program)
                                                           (cdr command))
                                                     " ")))))))

(defun rlm-server--wait-there (host process)
  "Return PROCESS, a shell on HOST, as soon as its terminal is raw.
What is sent before its terminal is raw would arrive changed."
  (let ((end (+ (float-time) rlm-server--patience))
        (said "")
        ready)
    (unwind-protect
        (progn
          (set-process-filter process (lambda (_process text) (setq said (concat said text))))
          (while (not (setq ready (string-match-p "rlm-is-ready\r?\n" said)))
            (unless (and (process-live-p process) (< (float-time) end))
              (signal 'rlm-rpc-error
                      (list (format "No server could be started on %s: %s" host
                                    (string-trim said)))))
            (accept-process-output process 0.1))
          process)
      (unless ready
        (delete-process process)))))

(defun rlm-server--start-here ()
  "Start the server on this machine, and return its process."
  (pcase-let ((`(,command ,_how ,directory) (rlm-server-find)))
    (unless command
      (signal 'rlm-rpc-error
              '("No rlm server was found: M-x rlm-install-server, or set `rlm-server-command'")))
    ;; Emacs does not complain of an absolute name that leads nowhere.
    (unless (executable-find (car command))
      (signal 'rlm-rpc-error
              (list (format "%s can't be executed: correct `rlm-server-command'"
                            (car command)))))
    (let ((default-directory (or directory (expand-file-name "~/"))))
      (rlm-server-log (format "\n$ %s\n" (combine-and-quote-strings command)))
      (make-process :name "rlm" :command command :connection-type 'pipe :noquery t
                    :coding 'utf-8-emacs-unix :stderr (rlm-server-log-pipe)))))

;;;; A server that runs already

(defun rlm-server--open-tcp ()
  "Return a process connected to `rlm-server-address'."
  (unless (string-match "\\`\\(127\\.[0-9.]+\\|localhost\\|\\[?::1\\]?\\):\\([0-9]+\\)\\'"
                        rlm-server-address)
    (signal 'rlm-rpc-error
            (list (format "`rlm-server-address' must be HOST:PORT on this machine, not %s"
                          rlm-server-address))))
  (make-network-process
   :name "rlm" :host (string-trim (match-string 1 rlm-server-address) "\\[" "\\]")
   :service (string-to-number (match-string 2 rlm-server-address))
   :coding 'utf-8-emacs-unix :noquery t))

(defun rlm-server-token ()
  "Return the secret for the server at `rlm-server-address', or nil."
  (when (and rlm-server-address rlm-server-token-file)
    (with-temp-buffer
      (insert-file-contents rlm-server-token-file)
      (string-trim (buffer-string)))))

(provide 'rlm-server)
;;; rlm-server.el ends here
