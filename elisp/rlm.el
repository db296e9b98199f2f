;;; rlm.el --- Ask about more text than a model can hold  -*- lexical-binding: t; -*-

;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: tools, convenience, text
;; URL: https://arxiv.org/abs/2512.24601

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

;; rlm asks a question about a region, a buffer, files, or a whole project,
;; however large.  The text does not go into a prompt: a Recursive Language
;; Model writes code that looks at it, and calls models on parts of it.
;; Every step is shown in an Org buffer while it happens, and the answer
;; links to the lines it rests on.
;;
;; Start with `rlm-ask', which does what is meant: it asks about the region,
;; else about the marked files of a Dired buffer, else about what is
;; collected, else about the project, else about the buffer.  To have all
;; commands under a prefix:
;;
;;   (global-set-key (kbd "C-c r") 'rlm-command-map)
;;
;; No key is needed to try it: the server has an embedded model that finds
;; and quotes passages.  `rlm-doctor' tells what is there and what is
;; missing.  The manual is rlm.org.

;;; Code:

(autoload 'rlm-ask "rlm-ask" nil t)
(autoload 'rlm-ask-region "rlm-ask" nil t)
(autoload 'rlm-ask-buffer "rlm-ask" nil t)
(autoload 'rlm-ask-files "rlm-ask" nil t)
(autoload 'rlm-ask-about "rlm-ask")
(autoload 'rlm-ask-project "rlm-project" nil t)
(autoload 'rlm-ask-dired "rlm-dired" nil t)
(autoload 'rlm-install-server "rlm-install" nil t)
(autoload 'rlm-server-show-log "rlm-server-log" nil t)
(autoload 'rlm-doctor "rlm-doctor" nil t)
(autoload 'rlm-status "rlm-doctor" nil t)
(autoload 'rlm-add "rlm-add" nil t)
(autoload 'rlm-add-bookmark "rlm-add" nil t)
(autoload 'rlm-add-files "rlm-add" nil t)
(autoload 'rlm-add-url "rlm-url" nil t)
(autoload 'rlm-context "rlm-collection-list" nil t)
(autoload 'rlm-ask-collection "rlm-collection" nil t)
(autoload 'rlm-save-collection "rlm-collection-save" nil t)
(autoload 'rlm-load-collection "rlm-collection-save" nil t)
(autoload 'rlm-delete-collection "rlm-collection-save" nil t)
(autoload 'rlm-clear-collection "rlm-collection" nil t)
(autoload 'rlm-save-preset "rlm-settings" nil t)
(autoload 'rlm-delete-preset "rlm-settings" nil t)
(autoload 'rlm-ask-with-preset "rlm-settings" nil t)
(autoload 'rlm-live-run "rlm-commands")
(autoload 'rlm-read-run "rlm-commands")
(autoload 'rlm-cancel "rlm-commands" nil t)
(autoload 'rlm-ask-anew "rlm-commands" nil t)
(autoload 'rlm-redraw "rlm-commands" nil t)
(autoload 'rlm-open-run "rlm-commands" nil t)
(autoload 'rlm-restore-jump "rlm-restore")
(autoload 'rlm-stop-server "rlm-commands" nil t)
(autoload 'rlm-restart-server "rlm-commands" nil t)
(autoload 'rlm-runs "rlm-runs" nil t)
(autoload 'rlm-resume-run "rlm-durable" nil t)
(autoload 'rlm-delete-runs "rlm-runs" nil t)
(autoload 'rlm-export-run "rlm-export" nil t)
(autoload 'rlm-models "rlm-models" nil t)
(autoload 'rlm-fork-run "rlm-durable" nil t)
(autoload 'rlm-rerun "rlm-durable" nil t)
(autoload 'rlm-watch "rlm-durable" nil t)
(autoload 'rlm-costs "rlm-costs" nil t)
(autoload 'rlm-set-limits "rlm-limits" nil t)
(autoload 'rlm-follow-up "rlm-steer" nil t)
(autoload 'rlm-note "rlm-steer" nil t)
(autoload 'rlm-pause "rlm-steer" nil t)
(autoload 'rlm-cancel-child "rlm-steer" nil t)
(autoload 'rlm-approve "rlm-steer" nil t)
(autoload 'rlm-reject "rlm-steer" nil t)
(autoload 'rlm-edit-code "rlm-steer" nil t)
(autoload 'rlm-exec "rlm-steer" nil t)
(autoload 'rlm-live-edit "rlm-live" nil t)
(autoload 'rlm-run-code "rlm-live" nil t)
(autoload 'rlm-live-run-block "rlm-live" nil t)
(autoload 'rlm-live-ctrl-c-ctrl-c "rlm-live")
(autoload 'rlm-variables "rlm-variables" nil t)
(autoload 'rlm-mark-good "rlm-reflect" nil t)
(autoload 'rlm-mark-bad "rlm-reflect" nil t)
(autoload 'rlm-unmark "rlm-reflect" nil t)
(autoload 'rlm-reflect "rlm-reflect" nil t)

;;;; Customization

(defgroup rlm nil
  "Questions about more text than a model can hold."
  :group 'tools
  :group 'external
  :prefix "rlm-"
  :link '(emacs-library-link :tag "Library" "rlm")
  :link '(url-link :tag "Paper" "https://arxiv.org/abs/2512.24601"))

(define-widget 'rlm-amount 'number
  "A number that is not negative."
  :tag "Number"
  :value 0
  :type-error "This field should contain a number that is not negative"
  :match-alternatives '(rlm-amount-p))

(defun rlm-amount-p (value)
  "Return non-nil if VALUE is a number that is not negative."
  (and (numberp value) (>= value 0)))

(defcustom rlm-confirm 'cost
  "When to ask for confirmation before a question is sent.
The size of the context, the number of files, and the estimated tokens and
cost are shown then.  The symbol `cost' means whenever it could cost money;
t means always, nil never."
  :type '(choice (const :tag "When it could cost money" cost)
                 (const :tag "Always" t)
                 (const :tag "Never" nil))
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-root-model nil
  "Name of the model that a question goes to; nil means the server's choice.
`rlm-models' lists the models that the server knows.  With a prefix argument,
the commands that ask let you choose the models of one question."
  :type '(choice (const :tag "The server's choice" nil) string)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-sub-model nil
  "Name of the model for sub-calls; nil means the server's choice."
  :type '(choice (const :tag "The server's choice" nil) string)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-limits nil
  "What one question may use, where it differs from the server's configuration.
An alist of names and numbers: `iterations' of the root model, `seconds' in
all, `cell-seconds' for one piece of code, `subcalls', `tokens' and `cost'
in US dollars.  A question that reaches a limit ends with the best answer so
far."
  :type '(alist :key-type (choice (const iterations) (const seconds) (const cell-seconds)
                                  (const subcalls) (const tokens) (const cost))
                :value-type rlm-amount)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-max-depth nil
  "How deep child runs may be nested; nil means as the server is configured.
With 1 there are none: what would be one is a plain sub-call."
  :type '(choice (const :tag "As the server is configured" nil)
                 (restricted-sexp :tag "From 1 to 10" :value 2
                                  :match-alternatives
                                  ((lambda (value) (and (integerp value) (<= 1 value 10))))))
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-profile nil
  "Name of the profile by which the root model is spoken to.
Nil means the profile that is for the model, by its name."
  :type '(choice (const :tag "By the model's name" nil) string)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-direct nil
  "Whether a text that fits goes straight to the model, without code.
Nil means as the model's profile says; t means whenever the text fits the
model's window; the symbol `never' means that the model always looks at it
with code."
  :type '(choice (const :tag "As the model's profile says" nil)
                 (const :tag "Whenever it fits" t)
                 (const :tag "Never" never))
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-approve-code nil
  "Whether each piece of the model's code waits for you before it runs.
In the run's buffer, \\<rlm-trajectory-mode-map>\\[rlm-approve] lets it run, \\[rlm-edit-code] \
edits it first, and
\\[rlm-reject] rejects it; the model is told why."
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-use-cache t
  "Whether answers that were kept may be used, and new ones are kept.
With nil every call is made and nothing is kept of it.  To ask one question
anew in spite of what is kept, use `rlm-ask-anew'."
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-use-notes t
  "Whether models are told what earlier runs have taught and you have accepted.
See `rlm-reflect'."
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

;; They are in rlm-context-files.el.  Before that is loaded, no file of a directory that sets them
;; is to be asked about.
;;;###autoload
(dolist (option '(rlm-include rlm-exclude))
  (put option 'safe-local-variable
       (lambda (value) (and (proper-list-p value) (seq-every-p #'stringp value)))))

;;;; The menu

;;;###autoload
(defun rlm ()
  "Show the menu of a question: what about, by which models, at what price.
Without transient, which Emacs has since version 28.1, ask as `rlm-ask' does."
  (interactive)
  (if (require 'transient nil t)
      (progn
        (require 'rlm-menu)
        (call-interactively 'rlm-menu))
    (message "There is no menu without transient")
    (call-interactively #'rlm-ask)))

;;;; Keys

;;;###autoload (autoload 'rlm-command-map "rlm" "The commands of rlm." nil 'keymap)
(defvar rlm-command-map
  (let ((map (make-sparse-keymap)))
    ;; The labels are what which-key shows.
    (define-key map "t" '("menu" . rlm))
    (define-key map "a" '("ask what is meant" . rlm-ask))
    (define-key map "r" '("ask the region" . rlm-ask-region))
    (define-key map "b" '("ask the buffer" . rlm-ask-buffer))
    (define-key map "p" '("ask the project" . rlm-ask-project))
    (define-key map "d" '("ask marked files" . rlm-ask-dired))
    (define-key map "f" '("ask files" . rlm-ask-files))
    (define-key map "+" '("add what is meant" . rlm-add))
    (define-key map "x" '("list what is collected" . rlm-context))
    (define-key map "R" '("all runs" . rlm-runs))
    (define-key map "o" '("open a run" . rlm-open-run))
    (define-key map "k" '("cancel" . rlm-cancel))
    (define-key map "l" '("set limits" . rlm-set-limits))
    (define-key map "n" '("reflect" . rlm-reflect))
    (define-key map "s" '("status" . rlm-status))
    (define-key map "m" '("models" . rlm-models))
    (define-key map "c" '("costs" . rlm-costs))
    (define-key map "?" '("doctor" . rlm-doctor))
    map)
  "The commands of rlm, to be bound to a prefix key.")
(fset 'rlm-command-map rlm-command-map)

(provide 'rlm)
;;; rlm.el ends here
