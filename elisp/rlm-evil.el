;;; rlm-evil.el --- Keys that go well with Evil  -*- lexical-binding: t; -*-

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

;;   (with-eval-after-load 'evil (require 'rlm-evil))
;;
;; The buffers of rlm are in motion state.  Their own keys work there,
;; except those by which Evil moves, searches and yanks: what these would do
;; stands behind a comma, as everything does, so that ", k" cancels a run
;; where k goes up.  Evil need not be there for this file to load, and
;; nothing else is loaded before it is used: a mode gets its keys when a
;; buffer is in it for the first time.

;;; Code:

(require 'seq)
(require 'rlm)

(defvar evil-buffer-regexps)
(defvar org-mode-map)

(declare-function evil-define-key* "evil-core" (state keymap key def &rest bindings))
(declare-function evil-get-auxiliary-keymap "evil-core"
                  (map state &optional create ignore-parent))
(declare-function evil-set-initial-state "evil-core" (mode state))
(declare-function rlm-trajectory-next "rlm-browse" (count))
(declare-function rlm-trajectory-previous "rlm-browse" (count))

(defconst rlm-evil--keys-of-evil
  (append (string-to-list "0123456789hjklwbeWBEftFT;,^$%gGHMLnN/?*#vVyzm'`[]{}()\"")
          (list ?\C-i))
  "Keys that Evil keeps in motion state.")

(defconst rlm-evil--modes
  '(rlm-trajectory-mode rlm-collection-mode rlm-runs-mode rlm-models-mode rlm-costs-mode
    rlm-variables-mode rlm-variable-mode rlm-reflect-mode)
  "Modes whose buffers are in motion state, with keys of their own.")

(defconst rlm-evil--reports
  "\\` ?\\*rlm \\(?:doctor\\|install\\|log\\|run .\\|status\\|text: .*\\)\\*\\'"
  "Regular expression for the names of buffers that are only read.")

(defvar rlm-evil--done nil
  "Keymaps that have their keys for motion state.")

(defun rlm-evil-setup ()
  "Give the keymap of this buffer's mode its keys for motion state, once.
What you have defined there stays as it is."
  (let ((map (current-local-map)))
    (unless (memq map rlm-evil--done)
      (push map rlm-evil--done)
      (rlm-evil--define map "," (rlm-evil--own map))
      (map-keymap (lambda (event _binding)
                    ;; The binding may have a label, or hide below another one.
                    (let ((command (lookup-key map (vector event))))
                      (when (and (integerp event)
                                 (not (memq event rlm-evil--keys-of-evil))
                                 (commandp command)
                                 (not (memq command '(negative-argument undefined))))
                        (rlm-evil--define map (vector event) command))))
                  (rlm-evil--own map))
      (rlm-evil--define map (kbd "TAB") (lookup-key map (kbd "TAB")))
      (rlm-evil--define map "gr" (or (lookup-key map "g") #'revert-buffer))
      (rlm-evil--define map "q" #'quit-window)
      (when (derived-mode-p 'rlm-trajectory-mode)
        (rlm-evil--define map "]]" #'rlm-trajectory-next)
        (rlm-evil--define map "[[" #'rlm-trajectory-previous)))))

(defun rlm-evil--own (map)
  "Return a copy of MAP without the keys that it has from Org."
  (let ((own (copy-keymap map)))
    (when (and (boundp 'org-mode-map) (eq org-mode-map (keymap-parent map)))
      (set-keymap-parent own nil))
    own))

(defun rlm-evil--define (map key command)
  "Let KEY be COMMAND in motion state where MAP is used, unless it is something.
COMMAND may be a keymap; then that is about each key in it."
  (let* ((there (evil-get-auxiliary-keymap map 'motion t t))
         (old (lookup-key there key)))
    (cond ((commandp (lookup-key there (seq-take key 1))))
          ((memq old '(nil 1))
           (evil-define-key* 'motion map key command))
          ((and (keymapp old) (keymapp command))
           (evil-define-key* 'motion map key (make-composed-keymap old command))))))

(when (require 'evil nil t)
  (dolist (mode rlm-evil--modes)
    (evil-set-initial-state mode 'motion)
    (add-hook (intern (format "%s-hook" mode)) #'rlm-evil-setup))
  (add-to-list 'evil-buffer-regexps (cons rlm-evil--reports 'motion))
  (dolist (buffer (buffer-list))
    (with-current-buffer buffer
      (when (memq major-mode rlm-evil--modes)
        (rlm-evil-setup)))))

(provide 'rlm-evil)
;;; rlm-evil.el ends here
