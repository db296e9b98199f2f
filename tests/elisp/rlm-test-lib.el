;;; rlm-test-lib.el --- What the tests of rlm share  -*- lexical-binding: t; -*-

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

;; Every test that has a server has one of its own, with directories of
;; its own, and leaves nothing behind.  Tests wait for conditions, never
;; for a time.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'ert-x)
(require 'jka-compr)                    ; notes the directory for its files once, when loaded
(require 'subr-x)
(require 'rlm)
(require 'rlm-client)
(require 'rlm-add)
(require 'rlm-collection-list)
(require 'rlm-doctor)
(require 'rlm-durable)
(require 'rlm-install)
(require 'rlm-costs)
(require 'rlm-dired)
(require 'rlm-limits)
(require 'rlm-menu)
(require 'rlm-models)
(require 'rlm-variables)
(require 'rlm-project)
(require 'rlm-reflect)
(require 'rlm-runs)
(require 'rlm-settings)
(require 'rlm-url)

(defconst rlm-test-here (file-name-directory (or load-file-name buffer-file-name))
  "Directory of the tests.")

(defconst rlm-test-root (expand-file-name "../../" rlm-test-here)
  "Directory of the checkout.")

(defconst rlm-test-python
  (or (getenv "RLM_SERVER_PYTHON")
      (expand-file-name ".venv/bin/python" rlm-test-root))
  "Python that has the server.")

(defvar rlm-test-directory nil
  "Private directory of the current test.")

(defun rlm-test-file (name &optional text)
  "Return the name of the file NAME in the test's directory; write TEXT into it."
  (let ((file (expand-file-name name rlm-test-directory)))
    (when text
      (make-directory (file-name-directory file) t)
      (let ((coding-system-for-write 'utf-8-unix))
        (write-region text nil file nil 'silent)))
    file))

(defun rlm-test-text (file)
  "Return the text of FILE."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8-unix))
      (insert-file-contents file))
    (buffer-string)))

(defun rlm-test-fixture (name)
  "Return the name of the fixture NAME."
  (expand-file-name (concat "fixtures/" name) rlm-test-here))

(defun rlm-test-recorded ()
  "Return the events of the recorded run."
  (mapcar (lambda (line)
            (json-parse-string line :object-type 'plist :null-object nil
                               :false-object :json-false))
          (split-string (rlm-test-text (rlm-test-fixture "run.jsonl")) "\n" t)))

(defun rlm-test-numbered (events)
  "Return copies of EVENTS that are numbered in their order."
  (seq-map-indexed (lambda (event seq) (plist-put (copy-sequence event) :seq seq)) events))

(defun rlm-test-first-question ()
  "Return the events of the recorded run until its first end."
  (let ((events (rlm-test-recorded)))
    (seq-take events (1+ (seq-position events "runEnded"
                                       (lambda (event kind)
                                         (equal kind (plist-get event :kind))))))))

(defun rlm-test-call (body)
  "Call BODY in a private directory, and remove every trace of it after."
  (let* ((rlm-test-directory (file-name-as-directory (file-truename (make-temp-file "rlm-test-" t))))
         (temporary-file-directory (rlm-test-file "tmp/"))
         (default-directory rlm-test-directory)
         (process-environment
          (append (list (concat "RLM_STATE=" (rlm-test-file "state"))
                        (concat "RLM_CACHE=" (rlm-test-file "cache"))
                        (concat "RLM_CONFIG=" (rlm-test-file "config.toml"))
                        (concat "HOME=" rlm-test-directory))
                  process-environment))
         (rlm-transcript-directory (rlm-test-file "transcripts/"))
         (rlm-server-command (list rlm-test-python "-m" "rlm_server"))
         (rlm-server-directory (rlm-test-file "server/"))
         (rlm-server-address nil)
         (rlm-use-auth-source nil)
         (rlm-collection-directory (rlm-test-file "collections/"))
         (rlm-settings-file (rlm-test-file "settings.eld"))
         (rlm-collection-current (rlm-collection--make))
         (rlm-confirm 'cost)
         (rlm-flush-seconds 0.01)
         (rlm-after-run-functions nil)
         (inhibit-message t)
         (buffers (buffer-list)))
    (make-directory temporary-file-directory)
    (unwind-protect
        (save-window-excursion (funcall body))
      (rlm-rpc-stop)
      (rlm-server-forgive)
      (dolist (buffer (buffer-list))
        (when (and (buffer-live-p buffer) (not (memq buffer buffers)))
          (with-current-buffer buffer
            (set-buffer-modified-p nil)
            (setq kill-buffer-query-functions nil))
          (kill-buffer buffer)))
      (clrhash rlm-client--buffers)
      (rlm-context-release-all)
      (delete-directory rlm-test-directory t))))

(defmacro rlm-test-with (&rest body)
  "Evaluate BODY as the text of a test, with a directory and a server of its own."
  (declare (indent 0) (debug t))
  `(rlm-test-call (lambda () ,@body)))

(defmacro rlm-test-with-odd-server (words &rest body)
  "Evaluate BODY like `rlm-test-with', with a server odd in the way WORDS say."
  (declare (indent 1) (debug t))
  `(rlm-test-with
     (setq rlm-server-command
           (append (list rlm-test-python (expand-file-name "odd_server.py" rlm-test-here)
                         (rlm-test-file "requests"))
                   ,words))
     ,@body))

(defun rlm-test-requests (&optional method)
  "Return the parameters of the requests that the odd server got, for METHOD."
  (mapcar (lambda (request) (plist-get request :params))
          (seq-filter (lambda (request)
                        (or (null method) (equal (plist-get request :method) method)))
                      (and (file-exists-p (rlm-test-file "requests"))
                           (mapcar (lambda (line) (json-parse-string line :object-type 'plist))
                                   (split-string (rlm-test-text (rlm-test-file "requests"))
                                                 "\n" t))))))

(defun rlm-test-wait (condition &optional what)
  "Wait until CONDITION, a function, returns non-nil, and return that.
Fail with WHAT after two minutes."
  (let ((end (+ (float-time) 120)) value)
    (while (not (setq value (funcall condition)))
      (when (> (float-time) end)
        (ert-fail (list 'timeout (or what condition)
                        (mapcar (lambda (buffer)
                                  (with-current-buffer buffer
                                    (list (buffer-name) (buffer-string))))
                                (seq-filter #'rlm-run-in-buffer (buffer-list))))))
      (accept-process-output nil 0.01))
    value))

(defun rlm-test-wait-end (buffer)
  "Wait until the run of BUFFER has ended; return it."
  (rlm-test-wait (lambda () (not (rlm-run-live-p (rlm-run-in-buffer buffer)))) "end of the run")
  (rlm-trajectory-flush buffer)
  (rlm-run-in-buffer buffer))

(defun rlm-test-wait-text (buffer regexp)
  "Wait until BUFFER holds a match for REGEXP."
  (rlm-test-wait (lambda ()
                   (with-current-buffer buffer
                     (save-excursion
                       (goto-char (point-min))
                       (re-search-forward regexp nil t))))
                 regexp))

(defun rlm-test-buffer-text (buffer)
  "Return the text of BUFFER without properties."
  (with-current-buffer buffer
    (buffer-substring-no-properties (point-min) (point-max))))

(defun rlm-test-visible-text ()
  "Return what is shown of the current buffer, with dots where text is hidden."
  (let ((pos (point-min)) (text ""))
    (while (< pos (point-max))
      (let ((next (next-single-char-property-change pos 'invisible)))
        (setq text (concat text (if (invisible-p pos)
                                    (if (string-suffix-p "..." text) "" "...")
                                  (buffer-substring-no-properties pos next)))
              pos next)))
    (string-remove-prefix "..." text)))   ; the keywords before the first heading

(defun rlm-test-shown-below-folds ()
  "Return the lines that are shown below folded headings.
One that two headings share is among them."
  (let (folded shown)
    (dolist (line (split-string (string-remove-suffix "\n" (rlm-test-visible-text)) "\n"))
      (if (string-match-p "\\`\\*+ " line)
          (setq folded (string-suffix-p "..." line))
        (when folded
          (push line shown)))
      (when (string-match-p "\\.\\.\\.\\*+ " line)
        (push line shown)))
    (nreverse shown)))

(defun rlm-test-python-words (code)
  "Return the words that CODE, Python that knows the server, prints."
  (with-temp-buffer
    (let ((default-directory rlm-test-root))
      (should (eql 0 (call-process rlm-test-python nil t nil "-c" code))))
    (split-string (buffer-string))))

(defmacro rlm-test-messages (&rest body)
  "Evaluate BODY and return what was said meanwhile, newest last."
  (declare (indent 0) (debug t))
  `(let (said)
     (cl-letf (((symbol-function 'message)
                (lambda (format &rest arguments)
                  (when format
                    (push (apply #'format-message format arguments) said)))))
       ,@body)
     (nreverse said)))

(defvar rlm-test-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c r") 'rlm-command-map)
    map)
  "The key that the manual advises.")

(defun rlm-test-keys (&rest keys)
  "Press KEYS, each as for `kbd', in the current buffer."
  (switch-to-buffer (current-buffer))
  (let ((current-prefix-arg nil) ; else a C-u would be there for what is called next
        (emulation-mode-map-alists (list (list (cons t rlm-test-map)))))
    (execute-kbd-macro (kbd (mapconcat #'identity keys " ")))))

;;;; All of the package

(defun rlm-test-load-all ()
  "Load every file of the package that needs no package of others."
  (dolist (file (directory-files (expand-file-name "elisp" rlm-test-root) nil "\\.el\\'"))
    (unless (string-match-p "rlm-\\(embark\\|consult\\|evil\\)" file)
      (require (intern (file-name-sans-extension file))))))

(defconst rlm-test-elsewhere "\\`rlm-\\(embark\\|consult\\)"
  "Commands that need a package of others, with which they are tested.")

(defun rlm-test-command-p (symbol)
  "Return non-nil if SYMBOL is a public command of the package."
  (let ((name (symbol-name symbol)))
    (and (string-match-p "\\`rlm\\(-[^-]\\|\\'\\)" name)
         (not (string-match-p "--\\|-mode\\'\\|\\`rlm-test" name))
         (not (string-match-p rlm-test-elsewhere name))
         (commandp symbol))))

(defun rlm-test-bindings (map prefix)
  "Return (COMMAND . KEYS) for all commands of this package in MAP, below PREFIX."
  (let (found)
    (map-keymap
     (lambda (event binding)
       (let ((keys (vconcat prefix (vector event)))
             (binding (if (stringp (car-safe binding)) (cdr binding) binding)))
         (cond ((keymapp binding)
                ;; Those are pressed by keys of others, and these clicked in
                ;; a terminal, in test_tmux_desktop.py.
                (unless (memq event '(remap header-line mode-line))
                  (setq found (append (rlm-test-bindings binding keys) found))))
               ((and binding (symbolp binding) (rlm-test-command-p binding))
                (push (cons binding (key-description keys)) found)))))
     map)
    found))

(defun rlm-test-all-keys ()
  "Return all commands of the package, and (COMMAND . KEYS) for all its keys."
  (let (found)
    (mapatoms
     (lambda (symbol)
       (when (rlm-test-command-p symbol)
         (push symbol found))
       (when (and (string-match-p "\\`rlm-.*-map\\'" (symbol-name symbol))
                  (boundp symbol)
                  (keymapp (symbol-value symbol)))
         (setq found (append (rlm-test-bindings
                              (symbol-value symbol)
                              (if (eq symbol 'rlm-command-map) (kbd "C-c r") []))
                             found)))))
    found))

;;;; Which keys were pressed

(defvar rlm-test-pressed (make-hash-table :test #'equal)
  "Commands that were run by keys in this Emacs, and (COMMAND . KEYS), as keys.")

(defun rlm-test-note-keys ()
  "Note the command that is about to be run by keys."
  (puthash (cons this-command (key-description (this-command-keys-vector))) t rlm-test-pressed)
  (rlm-test-note-command))

(defun rlm-test-note-command ()
  "Note the command that is run, also by its name after M-x."
  (puthash this-command t rlm-test-pressed))

(add-hook 'pre-command-hook #'rlm-test-note-keys)
(add-hook 'post-command-hook #'rlm-test-note-command)

;;;; Models that follow a script

(defun rlm-test-call-with-models (rules body)
  "Call BODY while a model server follows RULES, a vector of plists."
  (let* ((script (rlm-test-file "script.json" (json-serialize rules)))
         (said "")
         (process
          (make-process
           :name "scripted provider" :noquery t :connection-type 'pipe
           :command (list rlm-test-python
                          (expand-file-name "tests/scripted_provider.py" rlm-test-root)
                          "--script" script)
           :filter (lambda (_ text) (setq said (concat said text))))))
    (unwind-protect
        (progn
          (rlm-test-wait (lambda () (string-suffix-p "\n" said)) "scripted provider")
          (rlm-test-file "config.toml"
                         (format "root = \"scripted\"\n[models.scripted]
model = \"openai/scripted\"\nbase-url = \"http://127.0.0.1:%d/v1\"\nkey-env = \"RLM_TEST_KEY\"
input-price = 0.0\noutput-price = 0.0\n" (string-to-number said)))
          (let ((process-environment (cons "RLM_TEST_KEY=none" process-environment)))
            (funcall body)))
      (delete-process process))))

(defmacro rlm-test-with-models (rules &rest body)
  "Evaluate BODY like `rlm-test-with', with a model server that follows RULES."
  (declare (indent 1) (debug t))
  `(rlm-test-with
     (rlm-test-call-with-models ,rules (lambda () ,@body))))

(provide 'rlm-test-lib)
;;; rlm-test-lib.el ends here
