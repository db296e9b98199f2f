;;; rlm-menu.el --- The menu of a question  -*- lexical-binding: t; -*-

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

;; The menu of the command `rlm': the question, what it is about, and how it
;; is asked.  What is set here is for the questions asked here; it is
;; remembered for each project, and can be saved as a preset.
;;
;; This file and rlm-menu-setting.el alone need transient, which Emacs has
;; since version 28.1.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'transient)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-collection-save)
(require 'rlm-context)
(require 'rlm-menu-setting)
(require 'rlm-models)
(require 'rlm-question)
(require 'rlm-settings)

(defvar rlm-menu--place nil
  "What the settings of the menu are remembered by.")

(defvar rlm-menu--subject nil
  "What the question is about, a symbol.")

(defvar rlm-menu--question nil
  "The question, or nil as long as none was entered.")

(defvar rlm-menu--models 'unknown
  "The models that the server has, or the symbol unknown.")

;;;; Settings in the menu

(defun rlm-menu--model-reader (prompt)
  "Return a reader of names of models with PROMPT."
  (lambda (_old)
    (when (eq rlm-menu--models 'unknown)
      (setq rlm-menu--models (rlm-models-fetch)))
    (rlm-models-read prompt rlm-menu--models nil)))

(transient-define-infix rlm-menu-root-model ()
  "Choose the root model of the question."
  :class 'rlm-menu-setting :setting :rootModel
  :description "Root model"
  :reader (rlm-menu--model-reader "Root model"))

(transient-define-infix rlm-menu-sub-model ()
  "Choose the model for sub-calls."
  :class 'rlm-menu-setting :setting :subModel
  :description "Sub model "
  :reader (rlm-menu--model-reader "Sub model"))

(transient-define-infix rlm-menu-depth ()
  "Set how deep child runs may be nested."
  :class 'rlm-menu-setting :setting :maxDepth
  :description "Depth     "
  :reader (rlm-menu--number-reader
           "Depth of child runs" (lambda (number) (and (integerp number) (<= 1 number 10)))
           "a whole number from 1 to 10"))

(transient-define-infix rlm-menu-cost ()
  "Set what the question may cost."
  :class 'rlm-menu-setting :setting :cost
  :description "Cost, $   "
  :reader (rlm-menu--number-reader "US dollars at most" (lambda (number) (>= number 0))
                                   "a number of US dollars"))

(transient-define-infix rlm-menu-seconds ()
  "Set how long the question may take."
  :class 'rlm-menu-setting :setting :seconds
  :description "Seconds   "
  :reader (rlm-menu--number-reader "Seconds at most" #'cl-plusp "a number above 0"))

(transient-define-infix rlm-menu-iterations ()
  "Set how often the root model may reply."
  :class 'rlm-menu-setting :setting :iterations
  :description "Iterations"
  :reader (rlm-menu--number-reader
           "Replies of the root model at most"
           (lambda (number) (and (integerp number) (>= number 1))) "a whole number above 0"))

(defvar rlm-menu-profiles
  '("default" "small" "claude" "deepseek" "gemini" "gpt" "llama" "qwen" "qwen-coder")
  "Names of profiles that are completed; those of your own can be entered, too.")

(transient-define-infix rlm-menu-profile ()
  "Choose the profile by which the root model is spoken to."
  :class 'rlm-menu-setting :setting :profile
  :description "Profile   " :unset "by the name"
  :reader (lambda (old)
            (completing-read "Profile (empty: by the model's name): "
                             rlm-menu-profiles nil nil old)))

(transient-define-infix rlm-menu-direct ()
  "Let a text that fits go straight to the model, without code, or never."
  :class 'rlm-menu-choice :setting :direct
  :description "Direct    " :unset "by profile")

(transient-define-infix rlm-menu-approve ()
  "Let each piece of code wait for your approval."
  :class 'rlm-menu-choice :setting :approve :description "Approve   " :unset "as set")

(transient-define-infix rlm-menu-fresh ()
  "Ask anew, in spite of kept answers; the new ones take their place."
  :class 'rlm-menu-switch :setting :fresh :description "Ask anew  " :unset "off")

(transient-define-infix rlm-menu-no-cache ()
  "Neither use kept answers nor keep new ones."
  :class 'rlm-menu-choice :setting :noCache :description "No cache  " :unset "as set")

;;;; Question and subject

(transient-define-suffix rlm-menu-question ()
  "Enter the question, to be asked by RET."
  :transient t
  :description (lambda () (concat "Question  " (rlm-menu--question-text)))
  (interactive)
  (setq rlm-menu--question
        (rlm-menu--reading rlm-menu--question
          (let ((text (string-trim
                       (read-string (format "Ask about %s (empty: enter it later): "
                                            (rlm-settings-subject-label rlm-menu--subject))
                                    rlm-menu--question 'rlm-question-history))))
            (unless (string-empty-p text)
              (rlm-clean-question text))))))

(defun rlm-menu--question-text ()
  "Return the question as it is shown."
  (if rlm-menu--question
      (propertize (rlm-menu--in-line rlm-menu--question 0) 'face 'transient-value)
    (propertize "is asked for" 'face 'transient-inactive-value)))

(transient-define-suffix rlm-menu-subject ()
  "Let the question be about the next thing that it can be about here."
  :transient t
  :description (lambda () (concat "About     " (rlm-menu--subject-text)))
  (interactive)
  (let ((subjects (rlm-settings-subjects)))
    (setq rlm-menu--subject
          (or (cadr (memq rlm-menu--subject subjects)) (car subjects)))))

(defun rlm-menu--subject-text ()
  "Return what the question is about, and what else it could be about."
  (let* ((others (remq rlm-menu--subject (rlm-settings-subjects)))
         (or-text (if others (format "  (or: %s)" (mapconcat #'symbol-name others ", ")) "")))
    (concat (propertize (rlm-menu--in-line (rlm-settings-subject-label rlm-menu--subject)
                                           (length or-text))
                        'face 'transient-value)
            (propertize or-text 'face 'transient-inactive-value))))

(defun rlm-menu--in-line (text taken)
  "Return TEXT such that it fits into its line, of which TAKEN columns are taken."
  (truncate-string-to-width (replace-regexp-in-string "[ \t\n]+" " " text)
                            (max 10 (- (frame-width) (length " q Question   ") taken))
                            nil nil t))

(transient-define-suffix rlm-menu-add ()
  "Add what is meant here to what is collected, and ask about that."
  :transient t
  :description "Add what is meant"
  (interactive)
  (condition-case problem
      (progn
        (require 'rlm-add)
        (call-interactively 'rlm-add)
        (setq rlm-menu--subject 'collection))
    (error (message "%s" (error-message-string problem)))))

;;;; Asking and presets

(transient-define-suffix rlm-menu-ask ()
  "Ask the question."
  :description "Ask"
  (interactive)
  (let ((settings rlm-menu--settings))
    ;; First, so that they are there again when the question is given up.
    (rlm-settings-remember rlm-menu--place settings)
    (rlm-settings-ask rlm-menu--subject settings rlm-menu--question)
    (setq rlm-menu--question nil)))

(transient-define-suffix rlm-menu-estimate ()
  "Say what the question would read and could cost."
  :transient t
  :description "Estimate the cost"
  (interactive)
  (if (eq rlm-menu--subject 'files)
      (message "The files are chosen when the question is asked")
    (condition-case problem
        (let ((context (rlm-settings-subject-context rlm-menu--subject)))
          (message "Measuring...")
          (rlm-question-estimate context
                                 (lambda (estimate)
                                   (message "%s" (rlm-question-estimate-text estimate)))
                                 (lambda (text) (message "rlm: %s" text))
                                 (rlm-options rlm-menu--settings)))
      (error (message "%s" (error-message-string problem))))))

(transient-define-suffix rlm-menu-use-preset ()
  "Take the settings of a preset."
  :transient t
  :description "Take a preset"
  (interactive)
  (rlm-menu--take (rlm-menu--reading rlm-menu--settings
                    (copy-sequence (rlm-preset (rlm-settings-read-preset "Preset: "))))))

(transient-define-suffix rlm-menu-save-preset ()
  "Save these settings as a preset."
  :transient t
  :description "Save as preset"
  (interactive)
  (rlm-menu--reading nil
    (rlm-save-preset (rlm-collection-read-new-name
                      "Save as preset" nil
                      (mapcar #'car (plist-get (rlm-settings--read) :presets)))
                     (or rlm-menu--settings (user-error "Nothing is set")))))

(transient-define-suffix rlm-menu-reset ()
  "Let everything be as it is configured."
  :transient t
  :description "Reset"
  (interactive)
  (rlm-menu--take nil))

(defun rlm-menu--take (settings)
  "Let SETTINGS be those of the menu, and show them."
  (setq rlm-menu--settings settings)
  (dolist (suffix transient-current-suffixes)
    (when (cl-typep suffix 'rlm-menu-setting)
      (transient-init-value suffix))))

;;;; The menu

(defconst rlm-menu--lines
  '(:rootModel :subModel :profile :maxDepth :cost :seconds :iterations :approve :direct :fresh
    :noCache)
  "The settings that have lines in the menu.")

(defun rlm-menu--heading ()
  "Return the heading of the menu, with what is set but has no line in it.
That can be in a preset."
  (let ((others (cl-loop for (name value) on rlm-menu--settings by #'cddr
                         when (and value (not (memq name rlm-menu--lines)))
                         nconc (list name value))))
    (concat (propertize "Ask" 'face 'transient-heading)
            (if others (format "  (also set: %s)" (rlm-settings-text others)) ""))))

(transient-define-prefix rlm-menu ()
  "Ask a question: what about, by which models, and at what price."
  ;; A terminal of 80 columns and 24 lines has room for it.
  [[:description rlm-menu--heading
    ("q" rlm-menu-question)
    ("w" rlm-menu-subject)]]
  [["Models"
    ("m" rlm-menu-root-model)
    ("s" rlm-menu-sub-model)
    ("f" rlm-menu-profile)
    ("d" rlm-menu-depth)]
   ["Limits"
    ("b" rlm-menu-cost)
    ("t" rlm-menu-seconds)
    ("i" rlm-menu-iterations)]
   ["Elsewhere"
    ("L" "All runs" rlm-runs)
    ("M" "Models" rlm-models)
    ("C" "Costs" rlm-costs)
    ("?" "Doctor" rlm-doctor)]]
  [["How"
    ("A" rlm-menu-approve)
    ("D" rlm-menu-direct)
    ("F" rlm-menu-fresh)
    ("N" rlm-menu-no-cache)]
   ["Question"
    ("RET" rlm-menu-ask)
    ("e" rlm-menu-estimate)
    ("+" rlm-menu-add)
    ("x" "List what is collected" rlm-context)]
   ["Presets"
    ("p" rlm-menu-use-preset)
    ("P" rlm-menu-save-preset)
    ("R" rlm-menu-reset)]]
  (interactive)
  (setq rlm-menu--place (rlm-settings-place)
        rlm-menu--settings (copy-sequence (rlm-settings-remembered rlm-menu--place))
        rlm-menu--subject (car (rlm-settings-subjects))
        rlm-menu--models 'unknown)
  (transient-setup 'rlm-menu))

(provide 'rlm-menu)
;;; rlm-menu.el ends here
