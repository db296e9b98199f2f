;;; rlm-integration-test.el --- Tests beside other packages  -*- lexical-binding: t; -*-

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

;; Embark, Consult and Evil are Debian's, or those below the directory that
;; the environment variable RLM_TEST_ELPA names.  Each test has an Emacs of
;; its own, since these packages change the one that they are in.

;;; Code:

(require 'rlm-test-lib)

(defun rlm-test-package-directories ()
  "Return the directories of the packages that the tests need."
  (let ((place (or (getenv "RLM_TEST_ELPA") "/usr/share/emacs/site-lisp/elpa-src")))
    (mapcan (lambda (name)
              (let ((found (file-expand-wildcards (format "%s/%s-[0-9]*" place name))))
                (should found)
                (list (car found))))
            '("embark" "consult" "evil" "goto-chg" "compat" "avy" "which-key"))))

(defun rlm-test-beside (form)
  "Return what FORM prints in a new Emacs that has the packages."
  (with-temp-buffer
    (let ((inhibit-message t))
      (apply #'call-process (expand-file-name invocation-name invocation-directory) nil t nil
             "-Q" "--batch" "-L" (expand-file-name "elisp" rlm-test-root)
             (append (mapcan (lambda (directory) (list "-L" directory))
                             (rlm-test-package-directories))
                     (list "--eval" (format "%S" `(progn (require 'cl-lib) (princ "<") ,form
                                                         (princ ">")))))))
    (let ((text (buffer-string)))
      (if (string-match "<\\(\\(?:.\\|\n\\)*\\)>" text)
          (match-string 1 text)
        text))))

(ert-deftest rlm-integration-embark-acts-on-targets ()
  (rlm-test-with
    (let ((file (rlm-test-file "a.txt" "text\n")))
      (should (equal "((file part) rlm-embark-ask-file rlm-embark-ask-buffer rlm-ask-region \
rlm-add-url rlm-add-bookmark)"
                     (rlm-test-beside
                      `(progn
                         (require 'embark)
                         (require 'rlm-embark)
                         (setq embark-indicators nil)
                         (switch-to-buffer (get-buffer-create "a note"))
                         (insert ,file)
                         (execute-kbd-macro (kbd "M-x embark-act RET ? +"))
                         (setq transient-mark-mode t)
                         (execute-kbd-macro (kbd "C-x h M-x embark-act RET ? +"))
                         (princ (list (mapcar #'rlm-item-kind (rlm-collection-items
                                                               rlm-collection-current))
                                      (lookup-key embark-file-map "?a")
                                      (lookup-key embark-buffer-map "?a")
                                      (lookup-key embark-region-map "?a")
                                      (lookup-key embark-url-map "?+")
                                      (lookup-key embark-bookmark-map "?+"))))))))))

;; The first thing that Embark is asked for is the question, which the region is not.
(ert-deftest rlm-integration-embark-leaves-the-question-to-you ()
  (should (equal "How old?" (rlm-test-beside
                             '(progn
                                (require 'embark)
                                (require 'rlm-embark)
                                (setq embark-indicators nil transient-mark-mode t)
                                (switch-to-buffer (get-buffer-create "a note"))
                                (insert "The harbour is old.\n")
                                (cl-letf (((symbol-function 'rlm-ask-about)
                                           (lambda (question &rest _) (princ question))))
                                  (execute-kbd-macro
                                   (kbd "C-x h M-x embark-act RET ? a H o w SPC o l d ? RET"))))))))

(ert-deftest rlm-integration-consult-says-why-there-is-no-run ()
  (rlm-test-with
    (should (equal "nil no-such-server can't be executed: correct `rlm-server-command' \
There are no runs yet"
                   (rlm-test-beside
                    `(progn
                       (require 'consult)
                       (require 'rlm-consult)
                       (princ (seq-some #'featurep '(org rlm-rpc)))
                       (require 'rlm-client)
                       (dolist (command '(("no-such-server") (,rlm-test-python "-m" "rlm_server")))
                         (princ " ")
                         (let ((rlm-server-command command))
                           (condition-case problem
                               (rlm-consult-runs)
                             (user-error (princ (cadr problem))))))
                       (rlm-rpc-stop)))))))

(ert-deftest rlm-integration-consult-has-runs-as-a-source ()
  (rlm-test-with
    (rlm-test-file "harbour.txt" "The keeper is called Odalys.\n")
    (rlm-test-wait-end (rlm-ask-files "What is the keeper called?"
                                      (list (rlm-test-file "harbour.txt"))))
    (let ((text (rlm-test-beside
                 `(progn
                    (require 'consult)
                    (require 'rlm-consult)
                    (require 'rlm-client)
                    (setq rlm-server-command '(,rlm-test-python "-m" "rlm_server")
                          rlm-use-auth-source nil)
                    (rlm-rpc-call 'rlm/status nil)
                    (cl-letf* ((asked nil)
                               ((symbol-function 'completing-read)
                                (lambda (prompt table &rest _)
                                  (setq asked prompt)
                                  (car (all-completions "" table)))))
                      (rlm-consult-runs)
                      (princ asked))
                    (let ((buffer (seq-find #'rlm-run-in-buffer (buffer-list))))
                      (princ (rlm-run-question (rlm-run-in-buffer buffer))))
                    (princ (rlm-consult--annotate (caar rlm-consult--runs)))
                    (rlm-rpc-stop)))))
      (should (equal "Run: What is the keeper called?  done, offline/extractive, 0" text)))))

(defun rlm-test-beside-evil (&rest forms)
  "Return what FORMS print in a new Emacs with Evil.
They can use `keys', which prints the state and what some keys are."
  (rlm-test-beside
   `(progn
      (require 'evil)
      (require 'rlm-evil)
      (princ (featurep 'org))
      (evil-mode 1)
      (defun keys (&rest keys)
        (evil-initialize-state)
        (princ (cons evil-state (mapcar (lambda (keys) (key-binding (kbd keys))) keys))))
      ,@forms)))

(ert-deftest rlm-integration-evil-keeps-its-motions ()
  (should
   (equal (concat "nil(motion evil-next-line evil-previous-line rlm-trajectory-show-answer"
                  " rlm-trajectory-follow-link org-cycle scroll-up-command rlm-cancel"
                  " rlm-browse-fold rlm-trajectory-next rlm-redraw quit-window)"
                  "(motion rlm-collection-execute evil-next-line rlm-collection-visit"
                  " rlm-collection-kill evil-search-backward describe-mode)")
          (rlm-test-beside-evil
           '(require 'rlm-trajectory)
           '(switch-to-buffer (rlm-trajectory-create "What?"))
           '(keys "j" "k" "a" "RET" "TAB" "SPC" ", k" ", 2" "] ]" "g r" "q")
           '(switch-to-buffer (get-buffer-create "list"))
           '(require 'rlm-collection-list)
           '(rlm-collection-mode)
           '(keys "x" "j" "RET" ", k" "?" ", ?")))))

(ert-deftest rlm-integration-evil-knows-all-buffers ()
  (should
   (equal (concat "nil(motion rlm-variables-inspect)(motion rlm-variable-more)"
                  "(motion rlm-reflect-accept evil-search-next rlm-reflect-next undo revert-buffer)"
                  "(motion quit-window)(normal)")
          (rlm-test-beside-evil
           '(switch-to-buffer (get-buffer-create "buffer"))
           '(require 'rlm-variables)
           '(rlm-variables-mode)
           '(keys "RET")
           '(rlm-variable-mode)
           '(keys "RET")
           '(require 'rlm-reflect)
           ;; What the user has defined stays.
           '(evil-define-key 'motion rlm-reflect-mode-map "gr" #'revert-buffer ",x" #'undo)
           '(rlm-reflect-mode)
           '(keys "a" "n" ", n" ", x" "g r")
           '(switch-to-buffer (get-buffer-create "*rlm doctor*"))
           '(special-mode)
           '(keys "q")
           ;; Code is edited.
           '(require 'rlm-code)
           '(rlm-code-open "*rlm code*" "" "runs" "drops" #'ignore #'ignore)
           '(keys)))))

(ert-deftest rlm-integration-which-key-has-labels ()
  (should
   (string-match-p "a : ask what is meant.*: list what is collected"
                   (replace-regexp-in-string
                    "\n" " "
                    (rlm-test-beside
                     '(progn
                        (require 'which-key)
                        (require 'rlm)
                        (dolist (binding (sort (which-key--get-keymap-bindings rlm-command-map)
                                               (lambda (a b) (string< (car a) (car b)))))
                          (princ (format "%s : %s\n" (car binding) (cdr binding))))))))))

(ert-deftest rlm-integration-each-loads-without-the-package ()
  (dolist (feature '("rlm-embark" "rlm-consult" "rlm-evil"))
    (with-temp-buffer
      (should (eql 0 (call-process (expand-file-name invocation-name invocation-directory)
                                   nil t nil "-Q" "--batch" "-L"
                                   (expand-file-name "elisp" rlm-test-root) "-l" feature))))))

(ert-deftest rlm-integration-project-switch ()
  (rlm-test-with
    (rlm-test-file "tree/harbour.txt" "The keeper is called Odalys.\n")
    (call-process "git" nil nil nil "init" "-q" (rlm-test-file "tree/"))
    (require 'project)
    (let ((project-switch-commands '((rlm-ask-project "Ask rlm" ?r)))
          (project-list-file (rlm-test-file "projects"))
          (project--list 'unset))
      (with-current-buffer (get-buffer-create "elsewhere")
        (setq default-directory temporary-file-directory)
        (switch-to-buffer (current-buffer))
        (cl-letf (((symbol-function 'project-prompt-project-dir)
                   (lambda () (rlm-test-file "tree/"))))
          (execute-kbd-macro (kbd "M-x project-switch-project RET r W e l l ? RET"))))
      (let ((buffer (seq-find #'rlm-run-in-buffer (buffer-list))))
        (rlm-test-wait-end buffer)
        (should (equal "tree" (rlm-run-project (rlm-run-in-buffer buffer))))))))


(provide 'rlm-integration-test)
;;; rlm-integration-test.el ends here
