;;; rlm-options.el --- The settings of a question in the words of the protocol  -*- lexical-binding: t; -*-

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

;; Settings are one flat plist, as a person sets them in the menu, in a preset
;; or by options of Emacs.  The protocol has the limits among them in a plist
;; of their own.

;;; Code:

(require 'cl-lib)
(require 'rlm)

(defconst rlm-options--limits '(:cost :seconds :cellSeconds :iterations :subcalls :tokens)
  "The settings that are limits.")

(defun rlm-options (settings)
  "Return SETTINGS as options of a question, a plist as in the protocol.
The limits of `rlm-limits' count where SETTINGS say nothing."
  (let (options limits)
    (cl-loop for (name value) on settings by #'cddr
             do (when value
                  (if (memq name rlm-options--limits)
                      (setq limits (plist-put limits name value))
                    (setq options (plist-put options name value)))))
    (when limits
      (pcase-dolist (`(,name . ,value) rlm-limits)
        (let ((name (rlm-options--limit-name name)))
          (unless (plist-member limits name)
            (setq limits (plist-put limits name value)))))
      (setq options (plist-put options :limits limits)))
    options))

(defun rlm-options-of-user ()
  "Return what the user has set by options of Emacs, as settings."
  (append (when rlm-root-model (list :rootModel rlm-root-model))
          (when rlm-sub-model (list :subModel rlm-sub-model))
          (when rlm-max-depth (list :maxDepth rlm-max-depth))
          (rlm-options--speech)
          (when rlm-approve-code (list :approve t))
          (unless rlm-use-cache (list :noCache t))
          (unless rlm-use-notes (list :noNotes t))
          (mapcan (pcase-lambda (`(,name . ,value)) (list (rlm-options--limit-name name) value))
                  (copy-sequence rlm-limits))))

(defun rlm-options--speech ()
  "Return `rlm-profile' and `rlm-direct' as options of a question, a plist."
  (append (when rlm-profile (list :profile rlm-profile))
          (when rlm-direct (list :direct (if (eq rlm-direct 'never) :json-false t)))))

(defun rlm-options--limit-name (name)
  "Return NAME, a symbol such as `cell-seconds', as the keyword `:cellSeconds'."
  (let ((words (split-string (symbol-name name) "-")))
    (intern (concat ":" (car words) (mapconcat #'capitalize (cdr words) "")))))

(provide 'rlm-options)
;;; rlm-options.el ends here
