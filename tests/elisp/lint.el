;;; lint.el --- Compilers, checkdoc, package-lint, relint at zero  -*- lexical-binding: t; -*-

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

;; emacs -Q --batch -l tests/elisp/lint.el -f lint-and-exit
;;
;; Every file of elisp/ and tests/elisp/ is compiled with warnings as
;; errors, each in an Emacs of its own so that no file lives on what
;; another one has loaded; nothing compiled is left behind.  The package's
;; own files also go through checkdoc, package-lint, relint and, where this
;; Emacs has one, the native compiler.  Whatever is found is printed as
;; FILE:LINE: MESSAGE, and makes the exit status 1.
;;
;; package-lint is Debian's elpa-package-lint, or the one in the directory
;; that the environment variable PACKAGE_LINT names, and relint Debian's
;; elpa-relint.  Neither asks the network.

;;; Code:

(require 'checkdoc)
(require 'package)

(declare-function package-lint-buffer "package-lint" (&optional buffer))
(declare-function relint-buffer "relint" (buffer))
(defvar package-lint-main-file)

(defconst lint-root
  (expand-file-name "../.." (file-name-directory (or load-file-name buffer-file-name)))
  "The checkout.")

(defvar lint-findings 0
  "How many complaints there were.")

(defun lint-complain (file line message)
  "Print that MESSAGE holds for LINE of FILE, and count it."
  (setq lint-findings (1+ lint-findings))
  (princ (format "%s:%d: %s\n" (file-relative-name file lint-root) line message)))

(defun lint-files (directory)
  "Return the Lisp files in DIRECTORY of the checkout."
  (directory-files (expand-file-name directory lint-root) t "\\`[^.].*\\.el\\'"))

;;;; The compilers

;; The native compiler begins with all that the byte compiler does, and finds
;; what that finds.  What it does with that is left for it to fail in.

(defvar lint-compiled nil
  "Directory with the compiled files, which other files load faster.")

(defun lint-emacs (&rest arguments)
  "Run a new Emacs with ARGUMENTS; return nil, or what it said where it failed."
  (with-temp-buffer
    (unless (equal 0 (apply #'call-process
                            (expand-file-name invocation-name invocation-directory) nil t nil
                            "-Q" "--batch" "--eval" "(setq gc-cons-threshold 100000000)"
                            "-L" lint-compiled
                            "-L" (expand-file-name "elisp" lint-root)
                            "-L" (expand-file-name "tests/elisp" lint-root)
                            arguments))
      (buffer-string))))

(defun lint-compile (file directory)
  "Compile FILE, warnings being errors, with a new Emacs, into DIRECTORY."
  (when-let ((said (lint-byte-compile file directory)))
    (lint-complain file 1 (concat "does not compile cleanly:\n" said))
    t))

(defun lint-compile-natively (files directory)
  "Compile FILES natively into DIRECTORY, all as one.
By far the most that it takes, it takes however short a file is."
  (let ((all (expand-file-name "all.el" directory)))
    (with-temp-file all
      (insert ";;; all.el  -*- lexical-binding: t; -*-\n")
      (dolist (file files)
        (goto-char (point-max))
        (insert-file-contents file)))
    (when-let ((said (lint-native-compile all directory)))
      (lint-complain "elisp" 1 (concat "does not compile natively:\n" said)))))

(defun lint-compile-all ()
  "Compile all files with one Emacs into `lint-compiled'.
What does not compile there is told of later, file by file."
  (apply #'lint-emacs "--eval"
         (format "%S" `(setq byte-compile-dest-file-function
                             (lambda (file)
                               (expand-file-name (concat (file-name-base file) ".elc")
                                                 ,lint-compiled))))
         "-f" "batch-byte-compile"
         (append (lint-files "elisp")
                 (list (expand-file-name "tests/elisp/rlm-test-lib.el" lint-root)))))

(defun lint-byte-compile (file directory)
  "Compile FILE into DIRECTORY; return nil, or what is wrong with it."
  (lint-emacs "--eval"
              (format "%S" `(setq byte-compile-error-on-warn t
                                  byte-compile-dest-file-function
                                  (lambda (_file) ,(expand-file-name "compiled.elc" directory))))
              "-f" "batch-byte-compile" file))

(defun lint-native-compile (file directory)
  "Compile FILE natively into DIRECTORY; return nil, or what is wrong with it.
How fast the code would be does not matter, how fast it is compiled does."
  (lint-emacs "--eval"
              (format "%S" `(progn
                              (setq ;; The names in Emacs 28, and those since.
                                    comp-speed 0 native-comp-speed 0
                                    comp-eln-load-path (list ,directory)
                                    native-comp-eln-load-path (list ,directory))
                              (native-compile ,file ,(expand-file-name "x.eln" directory))))))

;;;; Checkdoc

(defun lint-checkdoc (file)
  "Complain about the documentation strings and comments of FILE."
  (with-current-buffer (find-file-noselect file)
    (let* ((checkdoc-autofix-flag 'never)
           (checkdoc-create-error-function
            (lambda (text start _end &optional _unfixable)
              (lint-complain file (line-number-at-pos (or start (point-min)) t) text)
              nil)))
      (checkdoc-current-buffer t))))

;;;; Package-lint

(defun lint-load-package-lint ()
  "Load package-lint; return nil if there is none."
  (let* ((named (getenv "PACKAGE_LINT"))
         (directories (if (member named '(nil ""))
                          (file-expand-wildcards
                           "/usr/share/emacs/site-lisp/elpa*/package-lint-[0-9]*")
                        (list named)))
         (load-path (append directories load-path)))
    (require 'package-lint nil t)))

(defun lint-package (file)
  "Complain about what package-lint finds in FILE."
  (with-current-buffer (find-file-noselect file)
    (let ((package-lint-main-file (expand-file-name "elisp/rlm.el" lint-root)))
      (pcase-dolist (`(,line ,_column ,_type ,message) (package-lint-buffer))
        (unless (lint-false-alarm-p message)
          (lint-complain file line message))))))

(defun lint-false-alarm-p (message)
  "Return non-nil if MESSAGE is known to be untrue.
Old versions of package-lint, such as Debian 12's, say of Emacs 28.1 that
it is not released yet.  An Emacs that fulfils the requirement and runs
this is the proof of the contrary."
  (and (string-match-p "uninstallable in all released Emacs versions" message)
       (version<= (lint-required-emacs) emacs-version)))

(defun lint-required-emacs ()
  "Return the Emacs version that the package requires, as a string."
  (with-temp-buffer
    (insert-file-contents (expand-file-name "elisp/rlm.el" lint-root))
    (re-search-forward "^;; Package-Requires:.*(emacs \"\\([0-9.]+\\)\")")
    (match-string 1)))

;;;; Relint

(defun lint-load-relint ()
  "Load relint; return nil if there is none."
  ;; What Debian has compiled: the macros of its source fail in Emacs 30.
  (let ((load-path (append (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa/xr-[0-9]*")
                           (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa/relint-[0-9]*")
                           load-path)))
    (require 'relint nil t)))

(defun lint-relint (file)
  "Complain about the regular expressions of FILE."
  (with-current-buffer (find-file-noselect file)
    ;; Message, place of the expression, place of the complaint, and more.
    (pcase-dolist (`(,message ,start ,place . ,_) (relint-buffer (current-buffer)))
      (lint-complain file (line-number-at-pos (or place start) t) message))))

;;;; All of it

(defun lint-and-exit ()
  "Check everything and end Emacs, with status 1 if anything was found."
  (let ((directory (make-temp-file "lint" t))
        (lint-compiled (make-temp-file "lint-compiled" t))
        (package-user-dir (make-temp-file "lint-elpa" t)))
    (unwind-protect
        (progn
          (lint-compile-all)
          (dolist (file (append (lint-files "elisp") (lint-files "tests/elisp")))
            (lint-compile file directory))
          (when (and (fboundp 'native-comp-available-p) (native-comp-available-p))
            (lint-compile-natively (lint-files "elisp") directory)))
      (delete-directory directory t)
      (delete-directory lint-compiled t))
    (mapc #'lint-checkdoc (lint-files "elisp"))
    (if (lint-load-relint)
        (mapc #'lint-relint (lint-files "elisp"))
      (lint-complain "." 1 "relint is missing: install elpa-relint"))
    (if (lint-load-package-lint)
        (mapc #'lint-package (lint-files "elisp"))
      (lint-complain "." 1 "package-lint is missing: set PACKAGE_LINT to its directory"))
    (delete-directory package-user-dir t))
  (princ (format "Emacs Lisp: %d complaints\n" lint-findings))
  (kill-emacs (if (zerop lint-findings) 0 1)))

(provide 'lint)
;;; lint.el ends here
