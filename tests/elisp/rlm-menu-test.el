;;; rlm-menu-test.el --- Tests of settings, presets and the menu  -*- lexical-binding: t; -*-

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

;; What the menu of a question sets, and what becomes of it.  The terminal's
;; tests press the keys of the menu itself.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-menu)
(require 'rlm-settings)

(ert-deftest rlm-menu-test-settings-become-options ()
  (let ((rlm-limits '((cell-seconds . 5) (cost . 9))))
    (should (equal '(:rootModel "big" :fresh t)
                   (rlm-options '(:rootModel "big" :subModel nil :fresh t))))
    ;; Limits that are set elsewhere count beside those of the menu.
    (should (equal '(:maxDepth 2 :limits (:cost 0.5 :iterations 3 :cellSeconds 5))
                   (rlm-options '(:cost 0.5 :maxDepth 2 :iterations 3))))
    (let ((rlm-root-model "big") (rlm-use-cache nil))
      (should (equal '(:rootModel "big" :noCache t :cellSeconds 5 :cost 9)
                     (rlm-options-of-user)))
      (should (equal '(:rootModel "big" :noCache t :limits (:cellSeconds 5 :cost 9))
                     (rlm-options (rlm-options-of-user)))))))

(ert-deftest rlm-menu-test-settings-are-those-of-the-protocol ()
  (let ((known (rlm-test-python-words "import msgspec
from rlm_server.protocol import AskOptions, LimitOverrides
for struct in (AskOptions, LimitOverrides):
    print(*(field.encode_name for field in msgspec.structs.fields(struct)))")))
    (should (get 'rlm-menu-cost 'transient--suffix))
    (mapatoms
     (lambda (symbol)
       (when-let ((suffix (get symbol 'transient--suffix)))
         (when (cl-typep suffix 'rlm-menu-setting)
           (should (member (substring (symbol-name (oref suffix setting)) 1) known))))))))

(ert-deftest rlm-menu-test-only-numbers-are-numbers ()
  (let ((reader (rlm-menu--number-reader "Dollars" #'numberp "a number")))
    (pcase-dolist (`(,text . ,value) '(("" . nil) (" 2 " . 2) (".5" . 0.5) ("0.25" . 0.25)))
      (cl-letf (((symbol-function 'read-string) (lambda (&rest _) text)))
        (should (equal value (funcall reader nil)))))
    (dolist (text '("." "1.2.3" "two" "-1"))
      (cl-letf (((symbol-function 'read-string) (lambda (&rest _) text)))
        (should-error (funcall reader nil) :type 'user-error)))))

(ert-deftest rlm-menu-test-direct-is-on-off-or-as-configured ()
  (should (equal '(t :json-false nil) (mapcar #'rlm-menu--next '(nil t :json-false))))
  (should (equal '(:direct :json-false) (rlm-options '(:direct :json-false)))))

(ert-deftest rlm-menu-test-what-is-set-elsewhere-can-be-turned-off ()
  (let ((rlm-approve-code t) (rlm-use-cache nil))
    (should (equal '(:approve :json-false :noCache :json-false)
                   (rlm-question--options
                    (rlm-options '(:approve :json-false :noCache :json-false))))))
  (dolist (command '(rlm-menu-approve rlm-menu-no-cache))
    (should (cl-typep (get command 'transient--suffix) 'rlm-menu-choice))))

(ert-deftest rlm-menu-test-profiles-are-those-of-the-server ()
  (should-not (seq-difference rlm-menu-profiles
                              (mapcar #'file-name-base
                                      (directory-files (expand-file-name
                                                        "rlm_server/engine/profiles" rlm-test-root)
                                                       nil "\\.toml\\'")))))

(ert-deftest rlm-menu-test-settings-are-remembered-by-place ()
  (rlm-test-with
    (rlm-settings-remember "~/one/" '(:cost 0.5 :fresh t :rootModel nil))
    (rlm-settings-remember t '(:cost 2))
    (should (equal '(:cost 0.5) (rlm-settings-remembered "~/one/")))
    (should (equal '(:cost 2) (rlm-settings-remembered t)))
    (should-not (rlm-settings-remembered "~/two/"))
    (should (= #o600 (file-modes rlm-settings-file)))
    ;; Nothing is written where nothing has changed, nothing is kept of what is unset.
    (let ((before (file-attribute-inode-number (file-attributes rlm-settings-file))))
      (rlm-settings-remember t '(:cost 2))
      (should (equal before (file-attribute-inode-number (file-attributes rlm-settings-file)))))
    (rlm-settings-remember t nil)
    (should-not (rlm-settings-remembered t))
    ;; There is a bound, and what was used last stays.
    (dotimes (index (+ 5 rlm-settings--projects))
      (rlm-settings-remember (format "~/%d/" index) '(:cost 1)))
    (should (= rlm-settings--projects
               (length (plist-get (rlm-settings--read) :projects))))
    (should-not (rlm-settings-remembered "~/one/"))
    ;; A file that can't be read is one without settings.
    (rlm-test-file "settings.eld" "(:version 1 :presets")
    (should-not (rlm-settings-remembered "~/5/"))))

(ert-deftest rlm-menu-test-presets-without-the-menu ()
  (rlm-test-with
    (should-error (call-interactively #'rlm-ask-with-preset) :type 'user-error)
    (should-error (rlm-save-preset "empty") :type 'user-error)
    (let ((rlm-root-model "offline") (rlm-limits '((cost . 1))))
      (rlm-save-preset "one"))
    (should (equal '(:rootModel "offline" :cost 1) (rlm-preset "one")))
    ;; None is chosen, so none is meant; and none is replaced unasked.
    (dolist (command '("rlm-delete-preset" "rlm-ask-with-preset"))
      (should-error (rlm-test-keys "M-x" command "RET RET") :type 'user-error))
    (let ((rlm-limits '((cost . 2))))
      (should-error (rlm-test-keys "M-x rlm-save-preset RET one RET n") :type 'user-error)
      (should (equal '(:rootModel "offline" :cost 1) (rlm-preset "one")))
      (rlm-test-keys "M-x rlm-save-preset RET one RET y")
      (should (equal '(:cost 2) (rlm-preset "one"))))
    (rlm-delete-preset "one")
    (should-not (rlm-preset "one"))))

(ert-deftest rlm-menu-test-settings-as-people-read-them ()
  (should (equal "cost 0.5, approve, noCache off"
                 (rlm-settings-text '(:cost 0.5 :approve t :noCache :json-false :fresh nil)))))

(ert-deftest rlm-menu-test-a-line-holds-what-is-long ()
  (let ((rlm-menu--question (make-string 200 ?ö))
        (rlm-menu--subject 'buffer)
        (rlm-collection-current (rlm-collection--make)))
    (with-temp-buffer
      (setq default-directory temporary-file-directory)
      (rename-buffer (make-string 200 ?b))
      (insert "text")
      (should (string-match-p "… +(or: .*files)\\'" (rlm-menu--subject-text)))
      (dolist (text (list (rlm-menu--subject-text) (rlm-menu--question-text)))
        (should (< (+ (length " q Question  ") (string-width text)) (frame-width))))
      ;; Where there is nothing else, nothing else is offered.
      (cl-letf (((symbol-function 'rlm-settings-subjects) (lambda () '(buffer))))
        (should-not (string-search "or:" (rlm-menu--subject-text)))))))

(ert-deftest rlm-menu-test-a-preset-counts ()
  (rlm-test-with-odd-server '()
    (setq rlm-confirm nil)
    (rlm-save-preset "one" '(:rootModel "big" :iterations 2))
    (with-current-buffer (get-buffer-create "a note")
      (setq default-directory rlm-test-directory)
      (insert "text")
      (switch-to-buffer (current-buffer))
      (execute-kbd-macro (kbd "M-x rlm-ask-with-preset RET one RET W e l l ? RET"))
      (rlm-test-wait (lambda () (rlm-test-requests "rlm/ask")))
      (let ((asked (car (rlm-test-requests "rlm/ask"))))
        (should (equal "Well?" (plist-get asked :question)))
        (should (equal '(:rootModel "big" :limits (:iterations 2))
                       (plist-get asked :options)))))))

(ert-deftest rlm-menu-test-what-has-no-line-stands-in-the-heading ()
  (let ((rlm-menu--settings '(:cost 0.5 :tokens 1000 :fresh nil :noNotes t)))
    (should (equal "Ask  (also set: tokens 1000, noNotes)"
                   (substring-no-properties (rlm-menu--heading)))))
  (let ((rlm-menu--settings '(:cost 0.5 :tokens nil)))
    (should (equal "Ask" (substring-no-properties (rlm-menu--heading))))))

(ert-deftest rlm-menu-test-subjects-of-a-place ()
  (rlm-test-with
    (with-temp-buffer
      (setq default-directory rlm-test-directory)
      (should (equal '(files) (rlm-settings-subjects)))
      (insert "text")
      (should (equal '(buffer files) (rlm-settings-subjects)))
      (rlm-collection-add (list (rlm-item-of-file (rlm-test-file "a.txt" "x") "chosen")))
      (let ((transient-mark-mode t))
        (push-mark (point-min) t t)
        (should (equal '(region collection buffer files) (rlm-settings-subjects))))
      (call-process "git" nil nil nil "init" "-q" rlm-test-directory)
      (should (memq 'project (rlm-settings-subjects)))
      (dolist (subject '(buffer collection project))
        (should (rlm-context-sources (rlm-settings-subject-context subject)))))
    (with-current-buffer (dired-noselect rlm-test-directory)
      (should (equal '(marked collection project files) (rlm-settings-subjects)))
      (should (rlm-context-sources (rlm-settings-subject-context 'marked))))))

(ert-deftest rlm-menu-test-without-transient ()
  (rlm-test-with
    (with-temp-buffer
      (setq default-directory rlm-test-directory)
      (insert "text")
      (let ((require (symbol-function 'require))
            asked)
        (cl-letf (((symbol-function 'rlm-ask)
                   (lambda () (interactive) (setq asked t)))
                  ((symbol-function 'require)
                   (lambda (feature &rest rest)
                     (unless (eq feature 'transient)
                       (apply require feature rest)))))
          (call-interactively #'rlm))
        (should asked)))))

(provide 'rlm-menu-test)
;;; rlm-menu-test.el ends here
