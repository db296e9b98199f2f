;;; rlm-install.el --- Install the rlm server  -*- lexical-binding: t; -*-

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

;; `rlm-install-server' makes a private environment and installs the server
;; into it, command by command, each of which is shown.  Nothing is ever
;; installed by anything else.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'rlm-server)

(defcustom rlm-server-python "python3"
  "Python, 3.11 or later, by which `rlm-install-server' makes the environment."
  :group 'rlm
  :type 'string
  :risky t
  :package-version '(rlm . "0.1.0"))

(defvar rlm-server-installed-hook nil
  "Hook run after `rlm-install-server' has succeeded.")

(defconst rlm-install--buffer "*rlm install*"
  "Name of the buffer that shows an installation.")

;;;###autoload
(defun rlm-install-server (checkout)
  "Install the server from CHECKOUT into a private environment.
The environment is `rlm-server-directory'.  What is done is shown in a
buffer, command by command, while Emacs goes on.  CHECKOUT is a directory
with the sources of rlm; where this file is a part of one, it is that."
  (interactive (list (or (rlm-server-checkout)
                         (read-directory-name "Directory with the sources of rlm: " nil nil t))))
  (let ((lock (expand-file-name "rlm_server/requirements.lock" checkout)))
    (unless (file-exists-p lock)
      (user-error "There is no %s" (abbreviate-file-name lock)))
    (when (process-live-p (get-buffer-process rlm-install--buffer))
      (user-error "An installation is under way; see %s" rlm-install--buffer))
    (unless (executable-find rlm-server-python)
      (user-error "There is no %s: install Python 3.11 or later, or set `rlm-server-python'"
                  rlm-server-python))
    (with-current-buffer (get-buffer-create rlm-install--buffer)
      (special-mode)
      (let ((inhibit-read-only t))
        (erase-buffer))
      (setq default-directory (file-name-as-directory (expand-file-name checkout)))
      (display-buffer (current-buffer))
      (rlm-install--run (rlm-install-commands default-directory lock)))))

(defun rlm-install-commands (checkout lock)
  "Return the commands that install the server from CHECKOUT.
LOCK is the file that names its dependencies and their hashes.
They are installed from wheels alone, so that no code of theirs runs; the
back end that builds the server itself is among them."
  (let* ((home (directory-file-name (expand-file-name rlm-server-directory)))
         (python (expand-file-name "bin/python" home))
         (pip `(,python "-m" "pip" "--disable-pip-version-check" "--no-input" "install")))
    `((,rlm-server-python "-c" "import sys; assert sys.version_info >= (3, 11), sys.version")
      (,rlm-server-python "-m" "venv" "--clear" ,home)
      (,@pip "--require-hashes" "--only-binary" ":all:" "-r" ,lock)
      (,@pip "--no-deps" "--no-index" "--no-build-isolation" ,(directory-file-name checkout))
      (,python "-m" "rlm_server" "--version"))))

(defun rlm-install--run (commands)
  "Run COMMANDS one after the other in the current buffer."
  (if (null commands)
      (progn
        (rlm-server-append "\nDone.  A server that runs already goes on: M-x rlm-restart-server.\n")
        (run-hooks 'rlm-server-installed-hook))
    (rlm-server-append (format "$ %s\n" (combine-and-quote-strings (car commands))))
    (let ((default-directory (if (cdr commands) default-directory
                               (expand-file-name "~/"))))
      (make-process
       :name "rlm install" :command (car commands) :buffer (current-buffer)
       :connection-type 'pipe :noquery t
       :filter (lambda (process text)
                 (when (buffer-live-p (process-buffer process))
                   (with-current-buffer (process-buffer process)
                     (rlm-server-append text))))
       :sentinel (lambda (process _event)
                   (unless (process-live-p process)
                     (rlm-install--ended process commands)))))))

(defun rlm-install--ended (process commands)
  "Go on after PROCESS, which ran the first of COMMANDS, has ended."
  (when (buffer-live-p (process-buffer process))
    (with-current-buffer (process-buffer process)
      (if (zerop (process-exit-status process))
          (rlm-install--run (cdr commands))
        (rlm-server-append
         (format "\nFailed with status %s.\n%s" (process-exit-status process)
                 (rlm-install--cure (car commands))))))))

(defun rlm-install--cure (command)
  "Return what to do when COMMAND has failed."
  (cond ((member "venv" command)
         "Where Python can't make an environment, its module venv is missing;\non Debian and Ubuntu:  sudo apt-get install python3-venv\n")
        ((member "-c" command)
         "Set `rlm-server-python' to a Python of version 3.11 or later.\n")
        ((member "pip" command)
         "Is the package index reachable?  Then M-x rlm-install-server again.\n")
        (t "")))

(provide 'rlm-install)
;;; rlm-install.el ends here
